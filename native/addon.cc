#include "addon.h"

#include "error.h"

namespace fairway
{

// index.js passes its BpfError class, so that `instanceof` works on errors thrown here.
static Napi::Value Initialize(const Napi::CallbackInfo &info)
{
	Napi::Env env = info.Env();
	if (!info[0].IsFunction())
		throw Napi::TypeError::New(env, "Cannot initialize: expected the class BpfError");
	Addon::Of(env).error = Napi::Persistent(info[0].As<Napi::Function>());
	Napi::Object exports = Napi::Object::New(env);
	DefineObject(env, exports);
	DefineMap(env, exports);
	DefineProgram(env, exports);
	DefineLink(env, exports);
	DefineClsact(env, exports);
	DefineRingBuffer(env, exports);
	DefinePacketSender(env, exports);
	DefineKernel(env, exports);
	DefineNetlink(env, exports);
	DefineMemory(env, exports);
	DefineDatagram(env, exports);
	return exports;
}

static Napi::Object Init(Napi::Env env, Napi::Object exports)
{
	LogCapture::Install();
	env.SetInstanceData(new Addon());
	exports["initialize"] = Napi::Function::New(env, Initialize, "initialize");
	return exports;
}

} // namespace fairway

static Napi::Object Init(Napi::Env env, Napi::Object exports)
{
	return fairway::Init(env, exports);
}

NODE_API_MODULE(fairway, Init)
