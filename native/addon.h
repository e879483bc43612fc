// State of one environment (the main thread or a worker): the constructors.
#pragma once

#include <napi.h>

namespace fairway
{

struct Addon {
	Napi::FunctionReference error;
	Napi::FunctionReference object;
	Napi::FunctionReference map;
	Napi::FunctionReference program;
	Napi::FunctionReference link;

	static Addon &Of(Napi::Env env)
	{
		return *env.GetInstanceData<Addon>();
	}
};

void DefineObject(Napi::Env env, Napi::Object exports);
void DefineMap(Napi::Env env, Napi::Object exports);
void DefineProgram(Napi::Env env, Napi::Object exports);
void DefineLink(Napi::Env env, Napi::Object exports);
void DefineClsact(Napi::Env env, Napi::Object exports);
void DefineRingBuffer(Napi::Env env, Napi::Object exports);
void DefinePacketSender(Napi::Env env, Napi::Object exports);
void DefineKernel(Napi::Env env, Napi::Object exports);
void DefineNetlink(Napi::Env env, Napi::Object exports);
void DefineMemory(Napi::Env env, Napi::Object exports);
void DefineDatagram(Napi::Env env, Napi::Object exports);

} // namespace fairway
