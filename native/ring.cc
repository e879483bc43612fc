// Delivers a ring buffer's records on the event loop.
//
//  1 The kernel makes the map's descriptor readable while there are records; libuv polls it.
//  2 Each turn delivers at most `burst` records, each as a copy of its bytes. The rest keeps the
//    descriptor readable, so the loop returns here after it has served others.
//  3 close() may be called from within a record's callback: the memory is released afterwards.
//  4 libuv owns the poll handle until its close callback; the rest may be destroyed before.
#include <uv.h>

#include <memory>

#include "error.h"
#include "map.h"
#include "ring_memory.h"

namespace fairway
{

class RingBuffer : public Napi::ObjectWrap<RingBuffer>
{
public:
	static constexpr const char *kClass = "RingBuffer";
	static void Define(Napi::Env env, Napi::Object exports);

	explicit RingBuffer(const Napi::CallbackInfo &info);
	~RingBuffer() override
	{
		Shut();
	}

private:
	// The part that libuv refers to.
	struct Poll {
		uv_poll_t handle;
		RingBuffer *owner;
		napi_async_cleanup_hook_handle hook;
	};

	static void OnReadable(uv_poll_t *handle, int status, int events);
	static void OnTeardown(napi_async_cleanup_hook_handle hook, void *poll);

	Napi::Value CloseRing(const Napi::CallbackInfo &info);
	Napi::Value Reference(const Napi::CallbackInfo &info);
	Napi::Value Unreference(const Napi::CallbackInfo &info);
	void Consume();
	bool Deliver(const void *data, size_t size);
	void Shut();

	Descriptor map_;
	std::unique_ptr<RingMemory> memory_;
	Poll *poll_ = nullptr;
	Napi::FunctionReference on_record_;
	std::unique_ptr<Napi::AsyncContext> context_;
	uint32_t burst_ = 0;
	uint32_t left_ = 0;
	bool consuming_ = false;
};

RingBuffer::RingBuffer(const Napi::CallbackInfo &info) : Napi::ObjectWrap<RingBuffer>(info)
{
	Napi::Env env = info.Env();
	std::string name;
	Call call(info, "read", "ring buffer", name);
	BpfMap &map = call.Handle<BpfMap>(0);
	name = map.name();
	if (map.description().type != BPF_MAP_TYPE_RINGBUF)
		call.Range("a map of type " + std::to_string(BPF_MAP_TYPE_RINGBUF),
			   "one of type " + std::to_string(map.description().type));
	if (!info[1].IsFunction())
		call.Type("a function for its records", info[1]);
	Napi::Value burst = call.Options(2).Get("burst");
	burst_ = burst.IsUndefined() ? 64 : call.Integer(burst, "burst", 1, INT32_MAX);

	// An own descriptor: the map may be closed before the ring.
	map_ = Descriptor::Duplicate(map.fd());
	if (!map_.valid())
		call.Fail(errno);
	memory_ = std::make_unique<RingMemory>(map_.get(), map.description().max_entries);
	if (!memory_->valid())
		call.Fail(errno);
	uv_loop_t *loop = nullptr;
	if (napi_get_uv_event_loop(env, &loop) != napi_ok)
		call.Fail(ENOTSUP);
	on_record_ = Napi::Persistent(info[1].As<Napi::Function>());
	context_ = std::make_unique<Napi::AsyncContext>(env, kClass);

	auto poll = std::make_unique<Poll>();
	poll->owner = this;
	if (int error = uv_poll_init(loop, &poll->handle, map_.get()))
		call.Fail(error);
	poll_ = poll.release();
	poll_->handle.data = poll_;
	napi_add_async_cleanup_hook(env, OnTeardown, poll_, &poll_->hook);
	if (int error = uv_poll_start(&poll_->handle, UV_READABLE, OnReadable)) {
		Shut();
		call.Fail(error);
	}
	// Referenced until close(): records arrive even if JavaScript no longer refers to the object.
	Ref();
}

void RingBuffer::OnReadable(uv_poll_t *handle, int, int)
{
	static_cast<Poll *>(handle->data)->owner->Consume();
}

void RingBuffer::Consume()
{
	Napi::HandleScope scope(Env());
	left_ = burst_;
	consuming_ = true;
	memory_->Consume([this](const void *data, size_t size) { return Deliver(data, size); });
	consuming_ = false;
	if (!poll_) {
		memory_.reset();
		map_.Reset();
		Unref();
	}
}

// Returns false to stop for now.
bool RingBuffer::Deliver(const void *data, size_t size)
{
	// The C interface, because every call fails while a worker is being stopped, and Napi::Error
	// would then abort the process.
	napi_env env = Env();
	Napi::HandleScope scope(env);
	napi_value record;
	if (napi_create_buffer_copy(env, size, data, nullptr, &record) != napi_ok)
		return false;
	napi_status status = napi_make_callback(env, *context_, Value(), on_record_.Value(), 1,
						&record, nullptr);
	if (status == napi_pending_exception) {
		// No JavaScript frame is below, so it becomes an uncaught exception.
		napi_value error;
		if (napi_get_and_clear_last_exception(env, &error) == napi_ok)
			napi_fatal_exception(env, error);
	} else if (status != napi_ok) {
		return false;
	}
	return poll_ && --left_;
}

// Stops polling. Destroys the ring now, or after Consume() has returned.
void RingBuffer::Shut()
{
	if (!poll_)
		return;
	Poll *poll = std::exchange(poll_, nullptr);
	poll->owner = nullptr;
	uv_close(reinterpret_cast<uv_handle_t *>(&poll->handle), [](uv_handle_t *handle) {
		Poll *poll = static_cast<Poll *>(handle->data);
		napi_remove_async_cleanup_hook(poll->hook);
		delete poll;
	});
	if (!consuming_) {
		memory_.reset();
		map_.Reset();
	}
}

// The environment (a worker, the process) ends while the ring is open.
void RingBuffer::OnTeardown(napi_async_cleanup_hook_handle, void *data)
{
	Poll *poll = static_cast<Poll *>(data);
	// Already closing: the close callback does the rest.
	if (poll->owner)
		poll->owner->Shut();
}

Napi::Value RingBuffer::CloseRing(const Napi::CallbackInfo &info)
{
	if (poll_) {
		Shut();
		if (!consuming_)
			Unref();
	}
	return info.Env().Undefined();
}

Napi::Value RingBuffer::Reference(const Napi::CallbackInfo &info)
{
	if (poll_)
		uv_ref(reinterpret_cast<uv_handle_t *>(&poll_->handle));
	return info.This();
}

Napi::Value RingBuffer::Unreference(const Napi::CallbackInfo &info)
{
	if (poll_)
		uv_unref(reinterpret_cast<uv_handle_t *>(&poll_->handle));
	return info.This();
}

void RingBuffer::Define(Napi::Env env, Napi::Object exports)
{
	exports[kClass] = DefineClass(env, kClass,
				      {
					      InstanceMethod("ref", &RingBuffer::Reference),
					      InstanceMethod("unref", &RingBuffer::Unreference),
					      InstanceMethod("close", &RingBuffer::CloseRing),
				      });
}

void DefineRingBuffer(Napi::Env env, Napi::Object exports)
{
	RingBuffer::Define(env, exports);
}

} // namespace fairway
