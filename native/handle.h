// The common part of maps, programs and links: a file descriptor that can be opened from a pin or an
// id, be pinned, and be closed.
#pragma once

#include <bpf/bpf.h>
#include <fcntl.h>
#include <napi.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <string>
#include <utility>

#include "addon.h"
#include "call.h"

namespace fairway
{

// Owns a file descriptor.
class Descriptor
{
public:
	Descriptor() = default;
	explicit Descriptor(int fd) : fd_(fd)
	{
	}
	Descriptor(Descriptor &&other) noexcept : fd_(std::exchange(other.fd_, -1))
	{
	}
	Descriptor &operator=(Descriptor &&other) noexcept
	{
		std::swap(fd_, other.fd_);
		return *this;
	}
	~Descriptor()
	{
		Reset();
	}

	// A second descriptor of the same kernel object.
	static Descriptor Duplicate(int fd)
	{
		return Descriptor(fcntl(fd, F_DUPFD_CLOEXEC, 3));
	}

	int get() const
	{
		return fd_;
	}
	bool valid() const
	{
		return fd_ >= 0;
	}
	void Reset()
	{
		if (fd_ >= 0)
			close(std::exchange(fd_, -1));
	}

private:
	int fd_ = -1;
};

// Argument of internal constructor calls; JavaScript cannot create one.
struct Seed {
	Descriptor descriptor;
	std::string name;
};

// Reads a kernel object's description; throws through `call`.
template <class Info> Info ReadInfo(const Call &call, int fd)
{
	Info info = {};
	__u32 length = sizeof(info);
	if (int error = bpf_obj_get_info_by_fd(fd, &info, &length))
		call.Fail(error);
	return info;
}

// Self declares kTag, kClass ("BpfMap"), kKind ("map"), kInode ("map"), Constructor(Addon &)
// and OpenById(id).
template <class Self> class Handle : public Napi::ObjectWrap<Self>
{
public:
	bool IsOpen() const
	{
		return descriptor_.valid();
	}
	int fd() const
	{
		return descriptor_.get();
	}
	const std::string &name() const
	{
		return name_;
	}

	static Napi::Value Wrap(Napi::Env env, Descriptor descriptor, const std::string &name)
	{
		Seed seed{ std::move(descriptor), name };
		return Self::Constructor(Addon::Of(env))
			.New({ Napi::External<Seed>::New(env, &seed) });
	}

	static Napi::Value OpenPinned(const Napi::CallbackInfo &info)
	{
		std::string path;
		Call call(info, "open pinned", Self::kKind, path);
		path = call.String(0, "path");
		Descriptor descriptor(bpf_obj_get(path.c_str()));
		if (!descriptor.valid())
			call.Fail(errno);
		if (!IsKind(descriptor.get()))
			call.Range(std::string("a pinned ") + Self::kKind, "another kind of pin");
		return Wrap(info.Env(), std::move(descriptor), path);
	}

	static Napi::Value OpenId(const Napi::CallbackInfo &info)
	{
		std::string name;
		Call call(info, "open", Self::kKind, name);
		uint32_t id = call.Integer(0, "id", 1, UINT32_MAX);
		name = "with id " + std::to_string(id);
		Descriptor descriptor(Self::OpenById(id));
		if (!descriptor.valid())
			call.Fail(errno);
		return Wrap(info.Env(), std::move(descriptor), name);
	}

protected:
	explicit Handle(const Napi::CallbackInfo &info) : Napi::ObjectWrap<Self>(info)
	{
		if (!info[0].IsExternal())
			throw Napi::TypeError::New(info.Env(),
						   std::string("Cannot construct ") + Self::kClass +
							   ": expected one of its static methods");
		Seed *seed = info[0].As<Napi::External<Seed>>().Data();
		descriptor_ = std::move(seed->descriptor);
		name_ = std::move(seed->name);
		info.This().As<Napi::Object>().TypeTag(&Self::kTag);
	}

	// First step of every method: the handle must be open.
	Call Begin(const Napi::CallbackInfo &info, const char *act) const
	{
		Call call(info, act, Self::kKind, name_);
		if (!IsOpen())
			call.Closed(Self::kClass);
		return call;
	}

	Napi::Value Pin(const Napi::CallbackInfo &info)
	{
		Call call = Begin(info, "pin");
		std::string path = call.String(0, "path");
		if (int error = bpf_obj_pin(fd(), path.c_str()))
			call.Fail(error);
		return info.Env().Undefined();
	}

	Napi::Value Close(const Napi::CallbackInfo &info)
	{
		descriptor_.Reset();
		return info.Env().Undefined();
	}

private:
	// A pin does not say its kind, and BPF_OBJ_GET_INFO_BY_FD succeeds for any. Only the name
	// of the anonymous inode shows it; a link's is bpf_link or bpf-link.
	static bool IsKind(int fd)
	{
		char target[64] = "";
		std::string path = "/proc/self/fd/" + std::to_string(fd);
		if (readlink(path.c_str(), target, sizeof(target) - 1) < 0)
			return false;
		std::string inode = target;
		std::replace(inode.begin(), inode.end(), '_', '-');
		return inode == std::string("anon-inode:bpf-") + Self::kInode;
	}

	Descriptor descriptor_;
	std::string name_;
};

} // namespace fairway
