// A loaded BPF program: its description, and test runs.
#pragma once

#include <linux/bpf.h>

#include "handle.h"

namespace fairway
{

class BpfProgram : public Handle<BpfProgram>
{
public:
	static constexpr napi_type_tag kTag = { 0x6661697277617900, 2 };
	static constexpr const char *kClass = "BpfProgram";
	static constexpr const char *kKind = "program";
	static constexpr const char *kInode = "prog";
	static Napi::FunctionReference &Constructor(Addon &addon)
	{
		return addon.program;
	}
	static int OpenById(uint32_t id)
	{
		return bpf_prog_get_fd_by_id(id);
	}
	static void Define(Napi::Env env, Napi::Object exports);

	explicit BpfProgram(const Napi::CallbackInfo &info);
	uint32_t type() const
	{
		return type_;
	}

private:
	Napi::Value Info(const Napi::CallbackInfo &info);
	Napi::Value TestRun(const Napi::CallbackInfo &info);

	uint32_t type_ = 0;
};

} // namespace fairway
