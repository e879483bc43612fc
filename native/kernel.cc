// Features of the kernel and of libbpf.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <sys/file.h>

#include <cerrno>
#include <climits>

#include "addon.h"
#include "call.h"

namespace fairway
{
namespace
{

const std::string kNoName;

Napi::Value PossibleCpus(const Napi::CallbackInfo &info)
{
	Call call(info, "count", "possible CPUs", kNoName);
	int cpus = libbpf_num_possible_cpus();
	if (cpus < 0)
		call.Fail(cpus);
	return Napi::Number::New(info.Env(), cpus);
}

// Queries the tcx hook of a device that cannot exist: a kernel with tcx looks for the device (ENODEV),
// one without tcx does not know the hook (EINVAL).
Napi::Value SupportsTcx(const Napi::CallbackInfo &info)
{
	Call call(info, "query", "tcx", kNoName);
	constexpr auto tcx_ingress = static_cast<bpf_attach_type>(46);
	uint32_t count = 0;
	int error = bpf_prog_query(INT_MAX, tcx_ingress, 0, nullptr, nullptr, &count);
	if (error != -ENODEV && error != -EINVAL)
		call.Fail(error ? error : EBUSY);
	return Napi::Boolean::New(info.Env(), error == -ENODEV);
}

// flock(2), exclusive and without waiting: Node.js has none.
Napi::Value Flock(const Napi::CallbackInfo &info)
{
	Call call(info, "lock", "descriptor", kNoName);
	int descriptor = call.Integer(0, "a descriptor", 0, INT_MAX);
	if (flock(descriptor, LOCK_EX | LOCK_NB) == 0)
		return Napi::Boolean::New(info.Env(), true);
	if (errno != EWOULDBLOCK)
		call.Fail(errno);
	return Napi::Boolean::New(info.Env(), false);
}

} // namespace

void DefineKernel(Napi::Env env, Napi::Object exports)
{
	exports["possibleCpus"] = Napi::Function::New(env, PossibleCpus, "possibleCpus");
	exports["supportsTcx"] = Napi::Function::New(env, SupportsTcx, "supportsTcx");
	exports["flock"] = Napi::Function::New(env, Flock, "flock");
	exports["libbpfVersion"] =
		Napi::String::New(env, std::to_string(libbpf_major_version()) + "." +
					       std::to_string(libbpf_minor_version()));
}

} // namespace fairway
