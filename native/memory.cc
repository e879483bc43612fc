// The memory of this process.
#include <malloc.h>

#include "addon.h"

namespace fairway
{
namespace
{

// Pages between chunks in use stay resident until malloc is told, whatever its trim threshold is: that concerns the
// end of the heap alone. Other C libraries give memory back by themselves, or have no way to.
Napi::Value TrimMemory(const Napi::CallbackInfo &info)
{
#ifdef __GLIBC__
	return Napi::Boolean::New(info.Env(), malloc_trim(0) == 1);
#else
	return Napi::Boolean::New(info.Env(), false);
#endif
}

} // namespace

void DefineMemory(Napi::Env env, Napi::Object exports)
{
	exports["trimMemory"] = Napi::Function::New(env, TrimMemory, "trimMemory");
}

} // namespace fairway
