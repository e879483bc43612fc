#include "error.h"

#include <bpf/libbpf.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "addon.h"

namespace fairway
{
namespace
{

// Kernel-internal, but bpf(2) returns it for a map type that lacks an operation.
constexpr int kENotSupp = 524;

thread_local LogCapture *innermost = nullptr;

int Print(libbpf_print_level level, const char *format, va_list arguments)
{
	if (!innermost || level == LIBBPF_DEBUG)
		return 0;
	va_list again;
	va_copy(again, arguments);
	int length = vsnprintf(nullptr, 0, format, again);
	va_end(again);
	if (length <= 0)
		return length;
	std::string &text = innermost->text();
	size_t start = text.size();
	text.resize(start + length + 1);
	vsnprintf(&text[start], length + 1, format, arguments);
	text.resize(start + length);
	return length;
}

const char *LibbpfCode(int error)
{
	switch (error) {
	case LIBBPF_ERRNO__LIBELF:
		return "LIBBPF_ERRNO__LIBELF";
	case LIBBPF_ERRNO__FORMAT:
		return "LIBBPF_ERRNO__FORMAT";
	case LIBBPF_ERRNO__KVERSION:
		return "LIBBPF_ERRNO__KVERSION";
	case LIBBPF_ERRNO__ENDIAN:
		return "LIBBPF_ERRNO__ENDIAN";
	case LIBBPF_ERRNO__INTERNAL:
		return "LIBBPF_ERRNO__INTERNAL";
	case LIBBPF_ERRNO__RELOC:
		return "LIBBPF_ERRNO__RELOC";
	case LIBBPF_ERRNO__LOAD:
		return "LIBBPF_ERRNO__LOAD";
	case LIBBPF_ERRNO__VERIFY:
		return "LIBBPF_ERRNO__VERIFY";
	case LIBBPF_ERRNO__PROG2BIG:
		return "LIBBPF_ERRNO__PROG2BIG";
	case LIBBPF_ERRNO__KVER:
		return "LIBBPF_ERRNO__KVER";
	case LIBBPF_ERRNO__PROGTYPE:
		return "LIBBPF_ERRNO__PROGTYPE";
	case LIBBPF_ERRNO__WRNGPID:
		return "LIBBPF_ERRNO__WRNGPID";
	case LIBBPF_ERRNO__INVSEQ:
		return "LIBBPF_ERRNO__INVSEQ";
	case LIBBPF_ERRNO__NLPARSE:
		return "LIBBPF_ERRNO__NLPARSE";
	default:
		return nullptr;
	}
}

// The first line says what failed ("prog 'x': BPF program load failed: ..."); the rest is in `log`.
std::string FirstLine(const std::string &log)
{
	std::string line = log.substr(0, log.find('\n'));
	const std::string prefix = "libbpf: ";
	return line.compare(0, prefix.size(), prefix) == 0 ? line.substr(prefix.size()) : line;
}

} // namespace

LogCapture::LogCapture() : outer_(innermost)
{
	innermost = this;
}
LogCapture::~LogCapture()
{
	innermost = outer_;
}
void LogCapture::Install()
{
	libbpf_set_print(Print);
}

std::string ErrorCode(int error)
{
	if (error == kENotSupp)
		return "ENOTSUPP";
	const char *code = strerrorname_np(error);
	if (!code)
		code = LibbpfCode(error);
	return code ? code : "E" + std::to_string(error);
}

std::string ErrorText(int error)
{
	if (error == kENotSupp)
		return "Operation not supported";
	char text[128] = "";
	libbpf_strerror(error, text, sizeof(text));
	return text;
}

Napi::Error MakeBpfError(Napi::Env env, const std::string &subject, int error,
			 const std::string &log)
{
	std::string message = subject + ": " + ErrorCode(error) + " (" + ErrorText(error) + ")";
	if (!log.empty())
		message += ": " + FirstLine(log);
	Napi::Function type = Addon::Of(env).error.Value().As<Napi::Function>();
	Napi::Object value =
		type.New({ Napi::String::New(env, message), Napi::Number::New(env, error),
			   Napi::String::New(env, ErrorCode(error)) });
	if (!log.empty())
		value["log"] = Napi::String::New(env, log);
	return Napi::Error(env, value);
}

} // namespace fairway
