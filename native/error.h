// Errors of the kernel and of libbpf, with the output of libbpf that led to them.
#pragma once

#include <napi.h>

#include <string>

namespace fairway
{

// Collects libbpf's output on this thread while it exists: warnings, the kernel's extended netlink
// messages and the verifier's log. The innermost capture gets the text.
class LogCapture
{
public:
	LogCapture();
	~LogCapture();
	LogCapture(const LogCapture &) = delete;
	LogCapture &operator=(const LogCapture &) = delete;
	std::string &text()
	{
		return text_;
	}

	// Directs libbpf's output to the captures of each thread; without one, it is discarded.
	static void Install();

private:
	std::string text_;
	LogCapture *outer_;
};

// "ENOENT"; libbpf's own numbers (from 4000) have names too.
std::string ErrorCode(int error);
std::string ErrorText(int error);

// A BpfError (the class in index.js). `error` is a positive errno.
Napi::Error MakeBpfError(Napi::Env env, const std::string &subject, int error,
			 const std::string &log);

} // namespace fairway
