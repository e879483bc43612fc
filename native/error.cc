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

// strerrorname_np() is glibc's alone.
#define NAME(errno_name) \
	case errno_name: \
		return #errno_name;

const char *ErrnoName(int error)
{
	switch (error) {
		NAME(EPERM)
		NAME(ENOENT)
		NAME(ESRCH)
		NAME(EINTR)
		NAME(EIO)
		NAME(ENXIO)
		NAME(E2BIG)
		NAME(ENOEXEC)
		NAME(EBADF)
		NAME(ECHILD)
		NAME(EAGAIN)
		NAME(ENOMEM)
		NAME(EACCES)
		NAME(EFAULT)
		NAME(ENOTBLK)
		NAME(EBUSY)
		NAME(EEXIST)
		NAME(EXDEV)
		NAME(ENODEV)
		NAME(ENOTDIR)
		NAME(EISDIR)
		NAME(EINVAL)
		NAME(ENFILE)
		NAME(EMFILE)
		NAME(ENOTTY)
		NAME(ETXTBSY)
		NAME(EFBIG)
		NAME(ENOSPC)
		NAME(ESPIPE)
		NAME(EROFS)
		NAME(EMLINK)
		NAME(EPIPE)
		NAME(EDOM)
		NAME(ERANGE)
		NAME(EDEADLK)
		NAME(ENAMETOOLONG)
		NAME(ENOLCK)
		NAME(ENOSYS)
		NAME(ENOTEMPTY)
		NAME(ELOOP)
		NAME(ENOMSG)
		NAME(EIDRM)
		NAME(ECHRNG)
		NAME(EL2NSYNC)
		NAME(EL3HLT)
		NAME(EL3RST)
		NAME(ELNRNG)
		NAME(EUNATCH)
		NAME(ENOCSI)
		NAME(EL2HLT)
		NAME(EBADE)
		NAME(EBADR)
		NAME(EXFULL)
		NAME(ENOANO)
		NAME(EBADRQC)
		NAME(EBADSLT)
		NAME(EBFONT)
		NAME(ENOSTR)
		NAME(ENODATA)
		NAME(ETIME)
		NAME(ENOSR)
		NAME(ENONET)
		NAME(ENOPKG)
		NAME(EREMOTE)
		NAME(ENOLINK)
		NAME(EADV)
		NAME(ESRMNT)
		NAME(ECOMM)
		NAME(EPROTO)
		NAME(EMULTIHOP)
		NAME(EDOTDOT)
		NAME(EBADMSG)
		NAME(EOVERFLOW)
		NAME(ENOTUNIQ)
		NAME(EBADFD)
		NAME(EREMCHG)
		NAME(ELIBACC)
		NAME(ELIBBAD)
		NAME(ELIBSCN)
		NAME(ELIBMAX)
		NAME(ELIBEXEC)
		NAME(EILSEQ)
		NAME(ERESTART)
		NAME(ESTRPIPE)
		NAME(EUSERS)
		NAME(ENOTSOCK)
		NAME(EDESTADDRREQ)
		NAME(EMSGSIZE)
		NAME(EPROTOTYPE)
		NAME(ENOPROTOOPT)
		NAME(EPROTONOSUPPORT)
		NAME(ESOCKTNOSUPPORT)
		NAME(EOPNOTSUPP)
		NAME(EPFNOSUPPORT)
		NAME(EAFNOSUPPORT)
		NAME(EADDRINUSE)
		NAME(EADDRNOTAVAIL)
		NAME(ENETDOWN)
		NAME(ENETUNREACH)
		NAME(ENETRESET)
		NAME(ECONNABORTED)
		NAME(ECONNRESET)
		NAME(ENOBUFS)
		NAME(EISCONN)
		NAME(ENOTCONN)
		NAME(ESHUTDOWN)
		NAME(ETOOMANYREFS)
		NAME(ETIMEDOUT)
		NAME(ECONNREFUSED)
		NAME(EHOSTDOWN)
		NAME(EHOSTUNREACH)
		NAME(EALREADY)
		NAME(EINPROGRESS)
		NAME(ESTALE)
		NAME(EUCLEAN)
		NAME(ENOTNAM)
		NAME(ENAVAIL)
		NAME(EISNAM)
		NAME(EREMOTEIO)
		NAME(EDQUOT)
		NAME(ENOMEDIUM)
		NAME(EMEDIUMTYPE)
		NAME(ECANCELED)
		NAME(ENOKEY)
		NAME(EKEYEXPIRED)
		NAME(EKEYREVOKED)
		NAME(EKEYREJECTED)
		NAME(EOWNERDEAD)
		NAME(ENOTRECOVERABLE)
		NAME(ERFKILL)
	default:
		return nullptr;
	}
}
#undef NAME

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
	const char *code = ErrnoName(error);
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
