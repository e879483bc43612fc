// Loads an object, on this thread or on another: the verifier is slow.
#include <cerrno>

#include "error.h"
#include "object.h"

namespace fairway
{
namespace
{

// BPF_LOG_LEVEL1 and BPF_LOG_STATS of the kernel's bpf_verifier.h.
constexpr uint32_t kLogSteps = 1;
constexpr uint32_t kLogStatistics = 4;

// Untouched pages cost nothing. A kernel before 6.4 refuses the program when its log is longer.
constexpr size_t kLogBytes = 16 << 20;

uint32_t LogLevel(const Call &call)
{
	Napi::Value wanted = call.Options(0).Get("verifierLog");
	if (wanted.IsString() && wanted.As<Napi::String>().Utf8Value() == "statistics")
		return kLogStatistics;
	if (!wanted.IsUndefined() && call.Boolean(wanted, "verifierLog"))
		return kLogSteps | kLogStatistics;
	return 0;
}

struct Outcome {
	int error;
	std::string log;
	// By program; only where requested.
	std::map<std::string, std::string> logs;
};

Outcome LoadObject(bpf_object *object, uint32_t level)
{
	std::map<std::string, std::unique_ptr<char[]>> buffers;
	bpf_program *program;
	bpf_object__for_each_program(program, object)
	{
		if (!level || !bpf_program__autoload(program))
			continue;
		auto &buffer = buffers[bpf_program__name(program)];
		buffer.reset(new char[kLogBytes]);
		buffer[0] = '\0';
		bpf_program__set_log_buf(program, buffer.get(), kLogBytes);
		bpf_program__set_log_level(program, level);
	}
	LogCapture log;
	Outcome outcome;
	outcome.error = bpf_object__load(object);
	for (const auto &[name, buffer] : buffers)
		outcome.logs[name] = buffer.get();
	outcome.log = log.text();
	if (outcome.error) {
		// libbpf prints the log of the program that failed only where it owns the buffer.
		for (const auto &[name, text] : outcome.logs)
			if (!text.empty())
				outcome.log += "prog '" + name + "':\n" + text;
	}
	return outcome;
}

} // namespace

// Holds the object, and settles the promise when the thread has finished.
class BpfObject::LoadWorker : public Napi::AsyncWorker
{
public:
	LoadWorker(BpfObject &owner, uint32_t level)
	    : Napi::AsyncWorker(owner.Env()), owner_(owner), level_(level),
	      deferred_(Napi::Promise::Deferred::New(owner.Env()))
	{
		owner_.state_ = State::kLoading;
		owner_.Ref();
	}
	Napi::Promise Promise() const
	{
		return deferred_.Promise();
	}

protected:
	void Execute() override
	{
		// Signals wake the main thread, so none makes the verifier give up here with EAGAIN.
		outcome_ = LoadObject(owner_.object_.get(), level_);
	}

	void OnOK() override
	{
		owner_.state_ = outcome_.error ? State::kFailed : State::kLoaded;
		owner_.logs_ = std::move(outcome_.logs);
		Settle();
		// Last: nothing else holds the object, which may be gone after that.
		owner_.Unref();
	}

private:
	void Settle()
	{
		// The C interface, because every call fails while a worker is being stopped, and
		// Napi::Error would then abort the process. Here the failure is checked.
		napi_env env = Env();
		napi_deferred ignored;
		napi_value promise;
		if (napi_create_promise(env, &ignored, &promise) != napi_ok)
			return;
		if (!outcome_.error)
			return deferred_.Resolve(Env().Undefined());
		deferred_.Reject(MakeBpfError(Env(), "Cannot load object " + owner_.path_,
					      std::abs(outcome_.error), outcome_.log)
					 .Value());
	}

	BpfObject &owner_;
	uint32_t level_;
	Napi::Promise::Deferred deferred_;
	Outcome outcome_ = {};
};

Napi::Value BpfObject::Load(const Napi::CallbackInfo &info)
{
	// Reading an option may run a getter that closes the object, so options come first.
	uint32_t level = LogLevel(Call(info, "load", "object", path_));
	Call call = BeginBeforeLoad(info, "load");
	Outcome outcome = LoadObject(object_.get(), level);
	state_ = outcome.error ? State::kFailed : State::kLoaded;
	logs_ = std::move(outcome.logs);
	if (outcome.error)
		call.Fail(outcome.error, outcome.log);
	return info.Env().Undefined();
}

Napi::Value BpfObject::LoadAsync(const Napi::CallbackInfo &info)
{
	uint32_t level = LogLevel(Call(info, "load", "object", path_));
	BeginBeforeLoad(info, "load");
	auto *worker = new LoadWorker(*this, level);
	// The worker deletes itself at the end.
	worker->Queue();
	return worker->Promise();
}

Napi::Value BpfObject::VerifierLog(const Napi::CallbackInfo &info)
{
	Call call = Begin(info, "read the verifier's log of");
	std::string name = bpf_program__name(FindProgram(call, 0));
	auto log = logs_.find(name);
	if (log == logs_.end())
		call.Range("a program that was loaded with verifierLog", name);
	return Napi::String::New(info.Env(), log->second);
}

} // namespace fairway
