// One message to a Unix datagram socket, as service managers listen at: Node.js has only streams.
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "addon.h"
#include "call.h"
#include "handle.h"

namespace fairway
{
namespace
{

// The kernel names the sender's process to a receiver that asks (SO_PASSCRED), so nothing is sent beside the text.
Napi::Value SendDatagram(const Napi::CallbackInfo &info)
{
	std::string path;
	Call call(info, "send a datagram to", "socket", path);
	path = call.String(0, "path");
	std::string text = call.String(1, "text");
	sockaddr_un address = {};
	address.sun_family = AF_UNIX;
	if (path.size() >= sizeof(address.sun_path))
		call.Range("a path of at most 107 bytes", std::to_string(path.size()) + " bytes");
	memcpy(address.sun_path, path.data(), path.size());
	// An abstract name begins with a zero byte, which is written as "@", and ends with its last byte.
	bool is_abstract = path[0] == '@';
	if (is_abstract)
		address.sun_path[0] = 0;
	socklen_t length = offsetof(sockaddr_un, sun_path) + path.size() + (is_abstract ? 0 : 1);
	Descriptor socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
	if (!socket.valid())
		call.Fail(errno);
	ssize_t sent = sendto(socket.get(), text.data(), text.size(), MSG_NOSIGNAL,
			      reinterpret_cast<sockaddr *>(&address), length);
	if (sent < 0)
		call.Fail(errno);
	return info.Env().Undefined();
}

} // namespace

void DefineDatagram(Napi::Env env, Napi::Object exports)
{
	exports["sendDatagram"] = Napi::Function::New(env, SendDatagram, "sendDatagram");
}

} // namespace fairway
