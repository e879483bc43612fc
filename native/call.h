// One call from JavaScript: its subject, the checks of its arguments, its error exit.
//
// Every method begins with its checks and, if it fails, ends in Fail(). All messages
// read `Cannot <act> <thing>: expected <what>, got <what>`.
#pragma once

#include <napi.h>

#include <cstdint>
#include <string>

namespace fairway
{

struct Bytes {
	uint8_t *data;
	size_t length;
};

class Call
{
public:
	// `act` and `kind` are literals: no text is built unless something fails.
	Call(const Napi::CallbackInfo &info, const char *act, const char *kind,
	     const std::string &name)
	    : info_(info), act_(act), kind_(kind), name_(name)
	{
	}

	Napi::Env Env() const
	{
		return info_.Env();
	}
	bool Has(size_t index) const
	{
		return !info_[index].IsUndefined();
	}
	Napi::Value operator[](size_t index) const
	{
		return info_[index];
	}

	// A Buffer or Uint8Array, of any length or of exactly `length` bytes.
	Bytes Buffer(const Napi::Value &value, const char *what) const;
	Bytes Buffer(size_t index, const char *what) const
	{
		return Buffer(info_[index], what);
	}
	Bytes Buffer(size_t index, const char *what, size_t length) const;
	// Several values of `size` bytes, one after another.
	Bytes Buffers(size_t index, const char *what, size_t size) const;
	std::string String(const Napi::Value &value, const char *what) const;
	std::string String(size_t index, const char *what) const
	{
		return String(info_[index], what);
	}
	uint32_t Integer(const Napi::Value &value, const char *what, uint32_t least,
			 uint32_t most) const;
	uint32_t Integer(size_t index, const char *what, uint32_t least, uint32_t most) const
	{
		return Integer(info_[index], what, least, most);
	}
	bool Boolean(const Napi::Value &value, const char *what) const;
	bool Boolean(size_t index, const char *what) const
	{
		return Boolean(info_[index], what);
	}
	// An object with options; undefined gives an empty one.
	Napi::Object Options(size_t index) const;
	// A handle of class T that is open.
	template <class T> T &Handle(size_t index) const
	{
		Napi::Value value = info_[index];
		if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&T::kTag))
			Type(T::kClass, value);
		T &handle = *T::Unwrap(value.As<Napi::Object>());
		if (!handle.IsOpen())
			Closed(T::kClass);
		return handle;
	}

	[[noreturn]] void Type(const std::string &expected, const Napi::Value &is) const;
	[[noreturn]] void Range(const std::string &expected, const std::string &got) const;
	[[noreturn]] void Closed(const char *what) const;
	// `error` is an errno, of either sign.
	[[noreturn]] void Fail(int error, const std::string &log = "") const;
	[[noreturn]] void FailAt(size_t index, size_t count, int error) const;

private:
	std::string Subject() const;

	const Napi::CallbackInfo &info_;
	const char *act_;
	const char *kind_;
	const std::string &name_;
};

} // namespace fairway
