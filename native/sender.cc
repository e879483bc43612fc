// Packets that the agent makes itself, sent by sockets that receive nothing.
//
//  sendFrame   a whole Ethernet frame out of a device (packet(7)): no route is asked and no rule of
//              netfilter sees it, but what hangs at the device's tc egress does
//  sendPacket  an IP packet from its header on (raw(7), IPPROTO_RAW), by the Node's routes and
//              through its output chain
//
// Nothing is queued here: what the kernel cannot take at once is an error. Each socket is opened with
// its first packet, since a Node may be without IPv6.
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "addon.h"
#include "call.h"
#include "handle.h"

namespace fairway
{
namespace
{

// What is read of a packet here; the rest is the kernel's to check.
constexpr size_t kEthernetHeader = 14;
constexpr size_t kIpv4Header = 20;
constexpr size_t kIpv6Header = 40;

} // namespace

class PacketSender : public Napi::ObjectWrap<PacketSender>
{
public:
	static constexpr const char *kClass = "PacketSender";
	static void Define(Napi::Env env, Napi::Object exports);

	explicit PacketSender(const Napi::CallbackInfo &info) : Napi::ObjectWrap<PacketSender>(info)
	{
	}

private:
	Napi::Value SendFrame(const Napi::CallbackInfo &info);
	Napi::Value SendPacket(const Napi::CallbackInfo &info);
	Napi::Value Close(const Napi::CallbackInfo &info);
	void Open(const Call &call, Descriptor &socket, int family, int protocol);

	Descriptor packet_;
	Descriptor ipv4_;
	Descriptor ipv6_;
	bool closed_ = false;
};

void PacketSender::Open(const Call &call, Descriptor &socket, int family, int protocol)
{
	if (socket.valid())
		return;
	Descriptor opened(::socket(family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol));
	if (!opened.valid())
		call.Fail(errno);
	// DF stays as it is, and what the kernel knows of a path's MTU is not asked.
	int probe = family == AF_INET ? IP_PMTUDISC_PROBE : IPV6_PMTUDISC_PROBE;
	int failed = 0;
	if (family == AF_INET)
		failed = setsockopt(opened.get(), IPPROTO_IP, IP_MTU_DISCOVER, &probe,
				    sizeof(probe));
	else if (family == AF_INET6)
		failed = setsockopt(opened.get(), IPPROTO_IPV6, IPV6_MTU_DISCOVER, &probe,
				    sizeof(probe));
	if (failed)
		call.Fail(errno);
	socket = std::move(opened);
}

Napi::Value PacketSender::SendFrame(const Napi::CallbackInfo &info)
{
	std::string name;
	Call call(info, "send", "frame", name);
	if (closed_)
		call.Closed(kClass);
	Bytes frame = call.Buffer(0, "frame");
	uint32_t ifindex = call.Integer(1, "ifindex", 1, INT32_MAX);
	if (frame.length < kEthernetHeader)
		call.Range("a frame with an Ethernet header",
			   std::to_string(frame.length) + " bytes");
	name = "out of interface " + std::to_string(ifindex);
	// Protocol 0: it receives nothing.
	Open(call, packet_, AF_PACKET, 0);
	sockaddr_ll to = {};
	to.sll_family = AF_PACKET;
	to.sll_ifindex = static_cast<int>(ifindex);
	to.sll_halen = 6;
	memcpy(to.sll_addr, frame.data, 6);
	memcpy(&to.sll_protocol, frame.data + 12, 2);
	if (sendto(packet_.get(), frame.data, frame.length, 0, reinterpret_cast<sockaddr *>(&to),
		   sizeof(to)) < 0)
		call.Fail(errno);
	return info.Env().Undefined();
}

Napi::Value PacketSender::SendPacket(const Napi::CallbackInfo &info)
{
	std::string name;
	Call call(info, "send", "packet", name);
	if (closed_)
		call.Closed(kClass);
	Bytes packet = call.Buffer(0, "packet");
	const uint8_t version = packet.length ? packet.data[0] >> 4 : 0;
	if (packet.length < (version == 6 ? kIpv6Header : kIpv4Header) ||
	    (version != 4 && version != 6))
		call.Range("an IPv4 or IPv6 packet", std::to_string(packet.length) +
							     " bytes of version " +
							     std::to_string(version));
	char destination[INET6_ADDRSTRLEN] = "";
	inet_ntop(version == 4 ? AF_INET : AF_INET6, packet.data + (version == 4 ? 16 : 24),
		  destination, sizeof(destination));
	name = std::string("to ") + destination;
	ssize_t sent;
	if (version == 4) {
		Open(call, ipv4_, AF_INET, IPPROTO_RAW);
		sockaddr_in to = {};
		to.sin_family = AF_INET;
		memcpy(&to.sin_addr, packet.data + 16, 4);
		sent = sendto(ipv4_.get(), packet.data, packet.length, 0,
			      reinterpret_cast<sockaddr *>(&to), sizeof(to));
	} else {
		Open(call, ipv6_, AF_INET6, IPPROTO_RAW);
		sockaddr_in6 to = {};
		to.sin6_family = AF_INET6;
		memcpy(&to.sin6_addr, packet.data + 24, 16);
		sent = sendto(ipv6_.get(), packet.data, packet.length, 0,
			      reinterpret_cast<sockaddr *>(&to), sizeof(to));
	}
	if (sent < 0)
		call.Fail(errno);
	return info.Env().Undefined();
}

Napi::Value PacketSender::Close(const Napi::CallbackInfo &info)
{
	closed_ = true;
	packet_.Reset();
	ipv4_.Reset();
	ipv6_.Reset();
	return info.Env().Undefined();
}

void PacketSender::Define(Napi::Env env, Napi::Object exports)
{
	exports[kClass] =
		DefineClass(env, kClass,
			    {
				    InstanceMethod("sendFrame", &PacketSender::SendFrame),
				    InstanceMethod("sendPacket", &PacketSender::SendPacket),
				    InstanceMethod("close", &PacketSender::Close),
			    });
}

void DefinePacketSender(Napi::Env env, Napi::Object exports)
{
	PacketSender::Define(env, exports);
}

} // namespace fairway
