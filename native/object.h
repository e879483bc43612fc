// An ELF object: opened, adjusted, loaded once. Its maps and programs get descriptors of their own, so
// that they outlive it.
#pragma once

#include <bpf/libbpf.h>
#include <napi.h>

#include <map>
#include <memory>
#include <string>

#include "call.h"

namespace fairway
{

class BpfObject : public Napi::ObjectWrap<BpfObject>
{
public:
	static constexpr const char *kClass = "BpfObject";
	static void Define(Napi::Env env, Napi::Object exports);

	explicit BpfObject(const Napi::CallbackInfo &info);

private:
	enum class State {
		kOpen,
		// Loading on another thread: until that is done, nothing else may use the object.
		kLoading,
		kLoaded,
		kFailed,
		kClosed
	};
	struct Seed {
		bpf_object *object;
		std::string path;
	};
	struct Close {
		void operator()(bpf_object *object) const
		{
			bpf_object__close(object);
		}
	};

	static Napi::Value Open(const Napi::CallbackInfo &info);
	Napi::Value MapNames(const Napi::CallbackInfo &info);
	Napi::Value ProgramNames(const Napi::CallbackInfo &info);
	Napi::Value ReadOnlyVariables(const Napi::CallbackInfo &info);
	Napi::Value SetMaxEntries(const Napi::CallbackInfo &info);
	Napi::Value ReuseMap(const Napi::CallbackInfo &info);
	Napi::Value SetAutoload(const Napi::CallbackInfo &info);
	Napi::Value SetReadOnlyData(const Napi::CallbackInfo &info);
	Napi::Value GetMap(const Napi::CallbackInfo &info);
	Napi::Value GetProgram(const Napi::CallbackInfo &info);
	Napi::Value CloseObject(const Napi::CallbackInfo &info);

	// object_load.cc
	class LoadWorker;
	Napi::Value Load(const Napi::CallbackInfo &info);
	Napi::Value LoadAsync(const Napi::CallbackInfo &info);
	Napi::Value VerifierLog(const Napi::CallbackInfo &info);

	Call Begin(const Napi::CallbackInfo &info, const char *act) const;
	// For methods that are valid only before, or only after, load().
	Call BeginBeforeLoad(const Napi::CallbackInfo &info, const char *act) const;
	Call BeginLoaded(const Napi::CallbackInfo &info, const char *act) const;
	bpf_map *FindMap(const Call &call, size_t index) const;
	bpf_program *FindProgram(const Call &call, size_t index) const;
	// The map of the object's `const volatile` variables; null if there are none.
	bpf_map *ReadOnlyMap() const;

	std::string path_;
	std::unique_ptr<bpf_object, Close> object_;
	State state_ = State::kOpen;
	std::map<std::string, std::string> logs_;
};

} // namespace fairway
