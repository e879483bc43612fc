// Filters on a clsact qdisc, which attach programs to TC on kernels without tcx links.
// Netlink uses the network namespace of the calling thread.
#include <bpf/libbpf.h>

#include "call.h"
#include "error.h"
#include "program.h"

namespace fairway
{
namespace
{

struct Filter {
	bpf_tc_hook hook;
	bpf_tc_opts options;
};

// Reads (ifindex, direction, priority, handle), starting at argument `first`.
Filter ReadFilter(const Call &call, size_t first, std::string &name)
{
	Filter filter = {};
	filter.hook.sz = sizeof(filter.hook);
	filter.options.sz = sizeof(filter.options);
	filter.hook.ifindex = call.Integer(first, "ifindex", 1, INT32_MAX);
	std::string direction = call.String(first + 1, "direction");
	if (direction != "ingress" && direction != "egress")
		call.Range("ingress or egress", "\"" + direction + "\"");
	filter.hook.attach_point = direction == "ingress" ? BPF_TC_INGRESS : BPF_TC_EGRESS;
	filter.options.priority = call.Integer(first + 2, "priority", 1, UINT16_MAX);
	filter.options.handle = call.Integer(first + 3, "handle", 1, UINT32_MAX);
	name = direction + " of interface " + std::to_string(filter.hook.ifindex);
	return filter;
}

Napi::Value Attach(const Napi::CallbackInfo &info)
{
	std::string name;
	Call call(info, "attach", "filter", name);
	BpfProgram &program = call.Handle<BpfProgram>(0);
	Filter filter = ReadFilter(call, 1, name);
	if (program.type() != BPF_PROG_TYPE_SCHED_CLS)
		call.Range("a program of type " + std::to_string(BPF_PROG_TYPE_SCHED_CLS),
			   "one of type " + std::to_string(program.type()));
	LogCapture log;
	int error = bpf_tc_hook_create(&filter.hook);
	if (error && error != -EEXIST)
		call.Fail(error, log.text());
	log.text().clear();
	filter.options.prog_fd = program.fd();
	filter.options.flags = BPF_TC_F_REPLACE;
	error = bpf_tc_attach(&filter.hook, &filter.options);
	if (error)
		call.Fail(error, log.text());
	return info.Env().Undefined();
}

// ENOENT: no such filter; EINVAL: no clsact qdisc; ENODEV: no such device.
bool IsAbsent(int error)
{
	return error == -ENOENT || error == -EINVAL;
}

Napi::Value Detach(const Napi::CallbackInfo &info)
{
	std::string name;
	Call call(info, "detach", "filter", name);
	Filter filter = ReadFilter(call, 0, name);
	LogCapture log;
	int error = bpf_tc_detach(&filter.hook, &filter.options);
	if (error && !IsAbsent(error))
		call.Fail(error, log.text());
	return Napi::Boolean::New(info.Env(), error == 0);
}

Napi::Value Query(const Napi::CallbackInfo &info)
{
	std::string name;
	Call call(info, "query", "filter", name);
	Filter filter = ReadFilter(call, 0, name);
	LogCapture log;
	int error = bpf_tc_query(&filter.hook, &filter.options);
	if (error && IsAbsent(error))
		return info.Env().Undefined();
	if (error)
		call.Fail(error, log.text());
	Napi::Object result = Napi::Object::New(info.Env());
	result["programId"] = filter.options.prog_id;
	return result;
}

} // namespace

void DefineClsact(Napi::Env env, Napi::Object exports)
{
	Napi::Object clsact = Napi::Object::New(env);
	clsact["attach"] = Napi::Function::New(env, Attach, "attach");
	clsact["detach"] = Napi::Function::New(env, Detach, "detach");
	clsact["query"] = Napi::Function::New(env, Query, "query");
	exports["clsact"] = clsact;
}

} // namespace fairway
