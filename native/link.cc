// A program's attachment to a device. It lasts as long as a descriptor or a pin of it exists.
#include <linux/bpf.h>
#include <linux/if_link.h>

#include "handle.h"
#include "program.h"

namespace fairway
{
namespace
{

// tcx (6.6) is newer than the headers that this is built with.
constexpr uint32_t kTcxIngress = 46;
constexpr uint32_t kTcxEgress = 47;
constexpr uint32_t kLinkTypeTcx = 11;

struct Attachment {
	const char *name;
	uint32_t program_type;
	uint32_t attach_type;
	uint32_t flags;
};

constexpr Attachment kAttachments[] = {
	{ "tcx_ingress", BPF_PROG_TYPE_SCHED_CLS, kTcxIngress, 0 },
	{ "tcx_egress", BPF_PROG_TYPE_SCHED_CLS, kTcxEgress, 0 },
	{ "xdp_native", BPF_PROG_TYPE_XDP, BPF_XDP, XDP_FLAGS_DRV_MODE },
	{ "xdp_generic", BPF_PROG_TYPE_XDP, BPF_XDP, XDP_FLAGS_SKB_MODE },
};

// The beginning of the kernel's struct bpf_link_info, with its tcx and xdp members.
struct LinkInfo {
	uint32_t type;
	uint32_t id;
	uint32_t program_id;
	uint32_t pad;
	uint32_t ifindex;
	uint32_t attach_type; // tcx only
};

} // namespace

class BpfLink : public Handle<BpfLink>
{
public:
	static constexpr napi_type_tag kTag = { 0x6661697277617900, 3 };
	static constexpr const char *kClass = "BpfLink";
	static constexpr const char *kKind = "link";
	static constexpr const char *kInode = "link";
	static Napi::FunctionReference &Constructor(Addon &addon)
	{
		return addon.link;
	}
	static int OpenById(uint32_t id)
	{
		return bpf_link_get_fd_by_id(id);
	}
	static void Define(Napi::Env env, Napi::Object exports);

	explicit BpfLink(const Napi::CallbackInfo &info) : Handle<BpfLink>(info)
	{
	}

private:
	static Napi::Value Attach(const Napi::CallbackInfo &info);

	Napi::Value Info(const Napi::CallbackInfo &info);
	Napi::Value Update(const Napi::CallbackInfo &info);
	Napi::Value Detach(const Napi::CallbackInfo &info);
};

Napi::Value BpfLink::Attach(const Napi::CallbackInfo &info)
{
	std::string name;
	Call call(info, "attach", "program", name);
	BpfProgram &program = call.Handle<BpfProgram>(0);
	name = program.name();
	uint32_t ifindex = call.Integer(1, "ifindex", 1, INT32_MAX);
	std::string type = call.String(2, "attach type");
	const Attachment *attachment = nullptr;
	for (const Attachment &candidate : kAttachments)
		if (type == candidate.name)
			attachment = &candidate;
	if (!attachment)
		call.Range("tcx_ingress, tcx_egress, xdp_native or xdp_generic",
			   "\"" + type + "\"");
	if (program.type() != attachment->program_type)
		call.Range("a program of type " + std::to_string(attachment->program_type) +
				   " for " + type,
			   "one of type " + std::to_string(program.type()));

	name += " to interface " + std::to_string(ifindex) + " (" + type + ")";
	LIBBPF_OPTS(bpf_link_create_opts, create);
	create.flags = attachment->flags;
	Descriptor link(bpf_link_create(program.fd(), static_cast<int>(ifindex),
					static_cast<bpf_attach_type>(attachment->attach_type),
					&create));
	if (!link.valid())
		call.Fail(errno);
	return Wrap(info.Env(), std::move(link), "of " + name);
}

Napi::Value BpfLink::Info(const Napi::CallbackInfo &info)
{
	Call call = Begin(info, "describe");
	auto description = ReadInfo<LinkInfo>(call, fd());
	uint32_t attach_type = 0;
	if (description.type == kLinkTypeTcx)
		attach_type = description.attach_type;
	else if (description.type == BPF_LINK_TYPE_XDP)
		attach_type = BPF_XDP;
	Napi::Object result = Napi::Object::New(info.Env());
	result["id"] = description.id;
	result["type"] = description.type;
	result["programId"] = description.program_id;
	result["ifindex"] = attach_type ? description.ifindex : 0;
	result["attachType"] = attach_type;
	return result;
}

Napi::Value BpfLink::Update(const Napi::CallbackInfo &info)
{
	Call call = Begin(info, "update");
	BpfProgram &program = call.Handle<BpfProgram>(0);
	if (int error = bpf_link_update(fd(), program.fd(), nullptr))
		call.Fail(error);
	return info.Env().Undefined();
}

Napi::Value BpfLink::Detach(const Napi::CallbackInfo &info)
{
	Call call = Begin(info, "detach");
	if (int error = bpf_link_detach(fd()))
		call.Fail(error);
	return info.Env().Undefined();
}

void BpfLink::Define(Napi::Env env, Napi::Object exports)
{
	Napi::Function type = DefineClass(env, kClass,
					  {
						  StaticMethod("attach", &BpfLink::Attach),
						  StaticMethod("openPinned", &BpfLink::OpenPinned),
						  StaticMethod("openId", &BpfLink::OpenId),
						  InstanceAccessor("info", &BpfLink::Info, nullptr),
						  InstanceMethod("update", &BpfLink::Update),
						  InstanceMethod("detach", &BpfLink::Detach),
						  InstanceMethod("pin", &BpfLink::Pin),
						  InstanceMethod("close", &BpfLink::Close),
					  });
	Addon::Of(env).link = Napi::Persistent(type);
	exports[kClass] = type;
}

void DefineLink(Napi::Env env, Napi::Object exports)
{
	BpfLink::Define(env, exports);
}

} // namespace fairway
