#include "call.h"

#include <cmath>
#include <cstdlib>

#include "error.h"

namespace fairway
{
namespace
{

std::string Describe(const Napi::Value &value)
{
	switch (value.Type()) {
	case napi_undefined:
		return "undefined";
	case napi_null:
		return "null";
	case napi_boolean:
		return value.As<Napi::Boolean>() ? "true" : "false";
	case napi_number:
		return value.ToString().Utf8Value();
	case napi_string:
		return "\"" + value.As<Napi::String>().Utf8Value() + "\"";
	case napi_symbol:
		return "a symbol";
	case napi_function:
		return "a function";
	case napi_bigint:
		return "a bigint";
	default:
		return value.IsTypedArray() ? "another typed array" : "another object";
	}
}

} // namespace

std::string Call::Subject() const
{
	std::string subject = std::string("Cannot ") + act_ + " " + kind_;
	return name_.empty() ? subject : subject + " " + name_;
}

void Call::Type(const std::string &expected, const Napi::Value &is) const
{
	throw Napi::TypeError::New(Env(),
				   Subject() + ": expected " + expected + ", got " + Describe(is));
}

void Call::Range(const std::string &expected, const std::string &got) const
{
	throw Napi::RangeError::New(Env(), Subject() + ": expected " + expected + ", got " + got);
}

void Call::Closed(const char *what) const
{
	throw Napi::TypeError::New(Env(),
				   Subject() + ": expected an open " + what + ", got a closed one");
}

void Call::Fail(int error, const std::string &log) const
{
	throw MakeBpfError(Env(), Subject(), std::abs(error), log);
}

void Call::FailAt(size_t index, size_t count, int error) const
{
	throw MakeBpfError(Env(),
			   Subject() + ", entry " + std::to_string(index) + " of " +
				   std::to_string(count),
			   std::abs(error), "");
}

Bytes Call::Buffer(const Napi::Value &value, const char *what) const
{
	if (!value.IsTypedArray() ||
	    value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
		Type(std::string("a Buffer as ") + what, value);
	Napi::Uint8Array array = value.As<Napi::Uint8Array>();
	return { array.Data(), array.ByteLength() };
}

Bytes Call::Buffer(size_t index, const char *what, size_t length) const
{
	Bytes bytes = Buffer(index, what);
	if (bytes.length != length)
		Range(std::string(what) + " of " + std::to_string(length) + " bytes",
		      std::to_string(bytes.length));
	return bytes;
}

Bytes Call::Buffers(size_t index, const char *what, size_t size) const
{
	Bytes bytes = Buffer(index, what);
	if (size == 0 || bytes.length % size != 0)
		Range(std::string(what) + " of " + std::to_string(size) + " bytes each",
		      std::to_string(bytes.length) + " bytes");
	return bytes;
}

std::string Call::String(const Napi::Value &value, const char *what) const
{
	if (!value.IsString())
		Type(std::string("a string as ") + what, value);
	std::string text = value.As<Napi::String>().Utf8Value();
	if (text.empty() || text.find('\0') != std::string::npos)
		Range(std::string("a ") + what + " without NUL",
		      text.empty() ? "empty" : "one with NUL");
	return text;
}

uint32_t Call::Integer(const Napi::Value &value, const char *what, uint32_t least,
		       uint32_t most) const
{
	if (!value.IsNumber())
		Type(std::string("a number as ") + what, value);
	double number = value.As<Napi::Number>().DoubleValue();
	// Written so that NaN fails too.
	if (!(number >= least && number <= most) || number != std::floor(number))
		Range(std::string(what) + " from " + std::to_string(least) + " to " +
			      std::to_string(most),
		      Describe(value));
	return static_cast<uint32_t>(number);
}

bool Call::Boolean(const Napi::Value &value, const char *what) const
{
	if (!value.IsBoolean())
		Type(std::string("true or false as ") + what, value);
	return value.As<Napi::Boolean>();
}

Napi::Object Call::Options(size_t index) const
{
	Napi::Value value = info_[index];
	if (value.IsUndefined())
		return Napi::Object::New(Env());
	if (!value.IsObject() || value.IsFunction())
		Type("an object with options", value);
	return value.As<Napi::Object>();
}

} // namespace fairway
