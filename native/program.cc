#include "program.h"

#include <algorithm>
#include <cstdio>
#include <vector>

namespace fairway
{
namespace
{

// Far above what any kernel accepts; rejected before it is allocated.
constexpr uint32_t kMaxPacket = 16 << 20;
constexpr uint32_t kMaxContext = 4096;
constexpr uint32_t kDefaultRoom = UINT32_MAX;

} // namespace

BpfProgram::BpfProgram(const Napi::CallbackInfo &info) : Handle<BpfProgram>(info)
{
	type_ = ReadInfo<bpf_prog_info>(Call(info, "describe", kKind, name()), fd()).type;
}

Napi::Value BpfProgram::Info(const Napi::CallbackInfo &info)
{
	Call call = Begin(info, "describe");
	auto description = ReadInfo<bpf_prog_info>(call, fd());
	char tag[2 * BPF_TAG_SIZE + 1] = "";
	for (int i = 0; i < BPF_TAG_SIZE; i++)
		snprintf(tag + 2 * i, 3, "%02x", description.tag[i]);
	Napi::Object result = Napi::Object::New(info.Env());
	result["id"] = description.id;
	result["name"] = Napi::String::New(info.Env(), description.name);
	result["type"] = description.type;
	result["tag"] = Napi::String::New(info.Env(), tag);
	result["verifiedInstructions"] = description.verified_insns;
	result["loadedAt"] =
		Napi::BigInt::New(info.Env(), static_cast<uint64_t>(description.load_time));
	return result;
}

Napi::Value BpfProgram::TestRun(const Napi::CallbackInfo &info)
{
	Call call = Begin(info, "test");
	if (!info[0].IsObject())
		call.Type("an object with options", info[0]);
	Napi::Object options = info[0].As<Napi::Object>();
	auto number = [&](const char *what, uint32_t otherwise, uint32_t most) {
		Napi::Value value = options.Get(what);
		return value.IsUndefined() ? otherwise : call.Integer(value, what, 0, most);
	};

	// Reading an option may run a getter that detaches a buffer: options first, then bytes.
	LIBBPF_OPTS(bpf_test_run_opts, run);
	run.repeat = number("repeat", 1, INT32_MAX);
	run.flags = number("flags", 0, UINT32_MAX);
	run.batch_size = number("batchSize", 0, UINT32_MAX);
	uint32_t room = number("dataOutSize", kDefaultRoom, kMaxPacket);
	Napi::Value given_data = options.Get("data");
	Napi::Value given_context = options.Get("context");

	Bytes data = call.Buffer(given_data, "data");
	if (data.length > kMaxPacket)
		call.Range("data of at most " + std::to_string(kMaxPacket) + " bytes",
			   std::to_string(data.length));
	Bytes context = { nullptr, 0 };
	if (!given_context.IsUndefined())
		context = call.Buffer(given_context, "context");
	if (context.length > kMaxContext)
		call.Range("a context of at most " + std::to_string(kMaxContext) + " bytes",
			   std::to_string(context.length));
	if (room == kDefaultRoom)
		room = data.length + 256;
	run.data_in = data.data;
	run.data_size_in = data.length;
	run.ctx_in = context.data;
	run.ctx_size_in = context.length;
	std::vector<uint8_t> data_out;
	std::vector<uint8_t> context_out;
	// Live frames are sent: no packet comes back.
	if (!(run.flags & BPF_F_TEST_XDP_LIVE_FRAMES)) {
		data_out.resize(room);
		context_out.resize(context.length);
		run.data_out = data_out.data();
		run.data_size_out = room;
		run.ctx_out = context_out.data();
		run.ctx_size_out = context.length;
	}

	if (int error = bpf_prog_test_run_opts(fd(), &run))
		call.Fail(error);

	Napi::Object result = Napi::Object::New(info.Env());
	result["returnValue"] = static_cast<int32_t>(run.retval);
	// The kernel reports the packet's size even if it copied none of it.
	data_out.resize(std::min<size_t>(data_out.size(), run.data_size_out));
	context_out.resize(std::min<size_t>(context_out.size(), run.ctx_size_out));
	result["data"] = Napi::Buffer<uint8_t>::Copy(info.Env(), data_out.data(), data_out.size());
	if (!context_out.empty())
		result["context"] = Napi::Buffer<uint8_t>::Copy(info.Env(), context_out.data(),
								context_out.size());
	result["duration"] = run.duration;
	return result;
}

void BpfProgram::Define(Napi::Env env, Napi::Object exports)
{
	Napi::Function type =
		DefineClass(env, kClass,
			    {
				    StaticMethod("openPinned", &BpfProgram::OpenPinned),
				    StaticMethod("openId", &BpfProgram::OpenId),
				    InstanceAccessor("info", &BpfProgram::Info, nullptr),
				    InstanceMethod("testRun", &BpfProgram::TestRun),
				    InstanceMethod("pin", &BpfProgram::Pin),
				    InstanceMethod("close", &BpfProgram::Close),
			    });
	Addon::Of(env).program = Napi::Persistent(type);
	exports[kClass] = type;
}

void DefineProgram(Napi::Env env, Napi::Object exports)
{
	BpfProgram::Define(env, exports);
}

} // namespace fairway
