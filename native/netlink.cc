// Steps in a network namespace, on another thread: rtnetlink requests, sysctls, offloads. A process for each
// of them would cost milliseconds, most of them of the event loop's.
//
// A thread of its own enters a namespace that is not this process's, and ends there. A look-up that takes less
// than a change of threads runs on the caller's (runStepsNow).
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "addon.h"
#include "call.h"
#include "error.h"

namespace fairway
{
namespace
{

// The kernel's answers are up to 32 KiB each.
constexpr size_t kReceiveSize = 64 * 1024;
// A process that holds the kernel's lock for longer is stuck.
constexpr int kTimeoutSeconds = 20;
// While the caller's thread waits.
constexpr int kBlockingSeconds = 1;
// A dump that changed under the reader is made again.
constexpr int kDumpTries = 5;

struct Descriptor {
	int fd;
	explicit Descriptor(int opened) : fd(opened)
	{
	}
	Descriptor(const Descriptor &) = delete;
	Descriptor &operator=(const Descriptor &) = delete;
	~Descriptor()
	{
		if (fd >= 0)
			close(fd);
	}
};

struct Step {
	enum {
		kMessage,
		kFile,
		kFeature
	} kind = kMessage;
	// A netlink message; its sequence number is written here.
	std::vector<uint8_t> message;
	// A namespace whose descriptor goes to this offset of the message.
	std::string name_space;
	size_t name_space_at = 0;
	// The file, or the device.
	std::string name;
	// What is written, or the feature.
	std::string text;
	bool on = false;
	// A file that is missing is no failure.
	bool optional = false;
};

struct Outcome {
	int error = 0;
	// The kernel's own words, if it has any.
	std::string said;
	// Netlink messages, one after another.
	std::vector<uint8_t> data;
	// A feature was different.
	bool changed = false;
};

/* ------------------------------------------------------ rtnetlink */

int OpenNetlink(int seconds)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (fd < 0)
		return -1;
	const int on = 1;
	const timeval time = { seconds, 0 };
	setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
	setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
	// Dumps are filtered by the kernel.
	setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time));
	return fd;
}

// The text attribute of an acknowledgement that has no more of the request than its header.
std::string ExtendedMessage(const nlmsghdr *header)
{
	const size_t from = NLMSG_HDRLEN + sizeof(nlmsgerr);
	if (!(header->nlmsg_flags & NLM_F_ACK_TLVS))
		return "";
	const uint8_t *bytes = reinterpret_cast<const uint8_t *>(header);
	for (size_t at = from; at + NLA_HDRLEN <= header->nlmsg_len;) {
		const nlattr *attribute = reinterpret_cast<const nlattr *>(bytes + at);
		if (attribute->nla_len < NLA_HDRLEN || at + attribute->nla_len > header->nlmsg_len)
			break;
		const char *text = reinterpret_cast<const char *>(bytes + at + NLA_HDRLEN);
		if ((attribute->nla_type & NLA_TYPE_MASK) == NLMSGERR_ATTR_MSG)
			return std::string(text, strnlen(text, attribute->nla_len - NLA_HDRLEN));
		at += NLA_ALIGN(attribute->nla_len);
	}
	return "";
}

// Takes the answers to one request. True: that was the last.
bool Take(const uint8_t *bytes, size_t length, uint32_t sequence, Outcome &outcome, bool &torn)
{
	const nlmsghdr *header = reinterpret_cast<const nlmsghdr *>(bytes);
	for (; NLMSG_OK(header, length); header = NLMSG_NEXT(header, length)) {
		if (header->nlmsg_seq != sequence)
			continue;
		torn |= (header->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
		if (header->nlmsg_type == NLMSG_ERROR || header->nlmsg_type == NLMSG_DONE) {
			int error = 0;
			if (header->nlmsg_len >= NLMSG_HDRLEN + sizeof(error))
				memcpy(&error, NLMSG_DATA(header), sizeof(error));
			outcome.error = error < 0 ? -error : 0;
			if (header->nlmsg_type == NLMSG_ERROR && error != 0)
				outcome.said = ExtendedMessage(header);
			return true;
		}
		const uint8_t *from = reinterpret_cast<const uint8_t *>(header);
		outcome.data.insert(outcome.data.end(), from,
				    from + NLMSG_ALIGN(header->nlmsg_len));
	}
	return false;
}

void Ask(int fd, Step &step, uint32_t sequence, Outcome &outcome, bool &torn)
{
	static thread_local std::vector<uint8_t> received(kReceiveSize);
	std::unique_ptr<Descriptor> other;
	if (!step.name_space.empty()) {
		other = std::make_unique<Descriptor>(
			open(step.name_space.c_str(), O_RDONLY | O_CLOEXEC));
		if (other->fd < 0) {
			outcome.error = errno;
			return;
		}
		memcpy(step.message.data() + step.name_space_at, &other->fd, sizeof(other->fd));
	}
	reinterpret_cast<nlmsghdr *>(step.message.data())->nlmsg_seq = sequence;
	if (send(fd, step.message.data(), step.message.size(), 0) < 0) {
		outcome.error = errno;
		return;
	}
	for (;;) {
		ssize_t length = recv(fd, received.data(), received.size(), MSG_TRUNC);
		if (length < 0 && errno == EINTR)
			continue;
		if (length < 0) {
			outcome.error = errno == EAGAIN ? ETIMEDOUT : errno;
			return;
		}
		if (static_cast<size_t>(length) > received.size()) {
			outcome.error = EMSGSIZE;
			return;
		}
		if (Take(received.data(), length, sequence, outcome, torn))
			return;
	}
}

void AskWhole(int fd, Step &step, uint32_t &sequence, Outcome &outcome)
{
	for (int i = 0; i < kDumpTries; i++) {
		bool torn = false;
		outcome = Outcome();
		Ask(fd, step, ++sequence, outcome, torn);
		if (!torn || outcome.error)
			return;
	}
}

/* ------------------------------------------------------ sysctls and offloads */

int Write(const Step &step)
{
	Descriptor file(open(step.name.c_str(), O_WRONLY | O_CLOEXEC));
	if (file.fd < 0)
		return step.optional && errno == ENOENT ? 0 : errno;
	return write(file.fd, step.text.data(), step.text.size()) < 0 ? errno : 0;
}

int Ethtool(int fd, const std::string &device, void *command)
{
	ifreq request = {};
	strncpy(request.ifr_name, device.c_str(), IFNAMSIZ - 1);
	request.ifr_data = static_cast<char *>(command);
	return ioctl(fd, SIOCETHTOOL, &request) < 0 ? errno : 0;
}

// The number of a feature by its name, as `ethtool -k` shows it.
int FindFeature(int fd, const Step &step, uint32_t &index, uint32_t &count)
{
	uint64_t room[(sizeof(ethtool_sset_info) + sizeof(uint32_t) + 7) / 8] = {};
	ethtool_sset_info *sets = reinterpret_cast<ethtool_sset_info *>(room);
	sets->cmd = ETHTOOL_GSSET_INFO;
	sets->sset_mask = 1ULL << ETH_SS_FEATURES;
	if (int error = Ethtool(fd, step.name, sets))
		return error;
	count = sets->data[0];
	std::vector<uint8_t> bytes(sizeof(ethtool_gstrings) + count * ETH_GSTRING_LEN);
	ethtool_gstrings *strings = reinterpret_cast<ethtool_gstrings *>(bytes.data());
	strings->cmd = ETHTOOL_GSTRINGS;
	strings->string_set = ETH_SS_FEATURES;
	strings->len = count;
	if (int error = Ethtool(fd, step.name, strings))
		return error;
	for (index = 0; index < count; index++) {
		const char *name =
			reinterpret_cast<char *>(strings->data) + index * ETH_GSTRING_LEN;
		if (step.text == std::string(name, strnlen(name, ETH_GSTRING_LEN)))
			return 0;
	}
	return EOPNOTSUPP;
}

int SetFeature(const Step &step, bool &changed)
{
	Descriptor control(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	if (control.fd < 0)
		return errno;
	uint32_t index = 0, count = 0;
	if (int error = FindFeature(control.fd, step, index, count))
		return error;
	const uint32_t blocks = (count + 31) / 32, block = index / 32, bit = 1U << index % 32;

	std::vector<uint8_t> got(sizeof(ethtool_gfeatures) +
				 blocks * sizeof(ethtool_get_features_block));
	ethtool_gfeatures *now = reinterpret_cast<ethtool_gfeatures *>(got.data());
	now->cmd = ETHTOOL_GFEATURES;
	now->size = blocks;
	if (int error = Ethtool(control.fd, step.name, now))
		return error;
	if (((now->features[block].active & bit) != 0) == step.on)
		return 0;

	std::vector<uint8_t> bytes(sizeof(ethtool_sfeatures) +
				   blocks * sizeof(ethtool_set_features_block));
	ethtool_sfeatures *wanted = reinterpret_cast<ethtool_sfeatures *>(bytes.data());
	wanted->cmd = ETHTOOL_SFEATURES;
	wanted->size = blocks;
	wanted->features[block].valid = bit;
	wanted->features[block].requested = step.on ? bit : 0;
	changed = true;
	if (int error = Ethtool(control.fd, step.name, wanted))
		return error;
	// The kernel keeps what is fixed, and calls that a success.
	if (int error = Ethtool(control.fd, step.name, now))
		return error;
	return ((now->features[block].active & bit) != 0) == step.on ? 0 : EINVAL;
}

/* ------------------------------------------------------ the steps */

// Ends at the first step that fails.
std::vector<Outcome> Run(std::vector<Step> &steps, const std::string &name_space,
			 int seconds = kTimeoutSeconds)
{
	std::vector<Outcome> outcomes;
	Outcome failed;
	if (!name_space.empty()) {
		Descriptor target(open(name_space.c_str(), O_RDONLY | O_CLOEXEC));
		if (target.fd < 0 || setns(target.fd, CLONE_NEWNET) < 0) {
			failed.error = errno;
			return { failed };
		}
	}
	Descriptor netlink(OpenNetlink(seconds));
	if (netlink.fd < 0) {
		failed.error = errno;
		return { failed };
	}
	uint32_t sequence = 0;
	for (Step &step : steps) {
		Outcome outcome;
		if (step.kind == Step::kMessage)
			AskWhole(netlink.fd, step, sequence, outcome);
		else if (step.kind == Step::kFile)
			outcome.error = Write(step);
		else
			outcome.error = SetFeature(step, outcome.changed);
		outcomes.push_back(std::move(outcome));
		if (outcomes.back().error)
			break;
	}
	return outcomes;
}

Napi::Array Results(Napi::Env env, const std::vector<Outcome> &outcomes)
{
	Napi::Array results = Napi::Array::New(env, outcomes.size());
	for (size_t i = 0; i < outcomes.size(); i++) {
		const Outcome &outcome = outcomes[i];
		Napi::Object result = Napi::Object::New(env);
		result["errno"] = outcome.error;
		if (outcome.error) {
			result["code"] = ErrorCode(outcome.error);
			const std::string text = ErrorText(outcome.error);
			result["message"] =
				outcome.said.empty() ? text : text + " (" + outcome.said + ")";
		}
		result["changed"] = outcome.changed;
		result["data"] =
			Napi::Buffer<uint8_t>::Copy(env, outcome.data.data(), outcome.data.size());
		results[static_cast<uint32_t>(i)] = result;
	}
	return results;
}

class Worker : public Napi::AsyncWorker
{
public:
	Worker(Napi::Env env, std::vector<Step> steps, std::string name_space)
	    : AsyncWorker(env), deferred_(Napi::Promise::Deferred::New(env)),
	      steps_(std::move(steps)), name_space_(std::move(name_space))
	{
	}
	Napi::Promise Promise() const
	{
		return deferred_.Promise();
	}

protected:
	void Execute() override
	{
		if (name_space_.empty()) {
			outcomes_ = Run(steps_, name_space_);
			return;
		}
		std::thread inside([this] { outcomes_ = Run(steps_, name_space_); });
		inside.join();
	}
	void OnOK() override
	{
		deferred_.Resolve(Results(Env(), outcomes_));
	}
	void OnError(const Napi::Error &error) override
	{
		deferred_.Reject(error.Value());
	}

private:
	Napi::Promise::Deferred deferred_;
	std::vector<Step> steps_;
	std::string name_space_;
	std::vector<Outcome> outcomes_;
};

Step ReadStep(const Call &call, const Napi::Value &value)
{
	Step step;
	if (!value.IsObject())
		call.Type("an object as step", value);
	Napi::Object object = value.As<Napi::Object>();
	if (object.Has("message")) {
		Bytes bytes = call.Buffer(object.Get("message"), "message");
		if (bytes.length < NLMSG_HDRLEN)
			call.Range("a netlink message", std::to_string(bytes.length) + " bytes");
		step.message.assign(bytes.data, bytes.data + bytes.length);
		reinterpret_cast<nlmsghdr *>(step.message.data())->nlmsg_len = bytes.length;
		if (object.Get("namespace").IsUndefined())
			return step;
		step.name_space = call.String(object.Get("namespace"), "namespace");
		step.name_space_at = call.Integer(object.Get("namespaceAt"), "namespaceAt", 0,
						  bytes.length - sizeof(int));
	} else if (object.Has("file")) {
		step.kind = Step::kFile;
		step.name = call.String(object.Get("file"), "file");
		step.text = call.String(object.Get("text"), "text");
		if (object.Has("optional"))
			step.optional = call.Boolean(object.Get("optional"), "optional");
	} else {
		step.kind = Step::kFeature;
		step.name = call.String(object.Get("device"), "device");
		step.text = call.String(object.Get("feature"), "feature");
		step.on = call.Boolean(object.Get("on"), "on");
	}
	return step;
}

std::vector<Step> ReadSteps(const Napi::CallbackInfo &info, const Call &call)
{
	if (!info[0].IsArray())
		call.Type("an array as steps", info[0]);
	Napi::Array array = info[0].As<Napi::Array>();
	std::vector<Step> steps;
	for (uint32_t i = 0; i < array.Length(); i++)
		steps.push_back(ReadStep(call, array[i]));
	return steps;
}

Napi::Value RunSteps(const Napi::CallbackInfo &info)
{
	std::string name;
	Call call(info, "run", "steps", name);
	std::vector<Step> steps = ReadSteps(info, call);
	Worker *worker = new Worker(info.Env(), std::move(steps),
				    call.Has(1) ? call.String(1, "namespace") : "");
	Napi::Promise promise = worker->Promise();
	worker->Queue();
	return promise;
}

Napi::Value RunStepsNow(const Napi::CallbackInfo &info)
{
	std::string name;
	Call call(info, "run", "steps", name);
	std::vector<Step> steps = ReadSteps(info, call);
	return Results(info.Env(), Run(steps, "", kBlockingSeconds));
}

} // namespace

void DefineNetlink(Napi::Env env, Napi::Object exports)
{
	exports["runSteps"] = Napi::Function::New(env, RunSteps, "runSteps");
	exports["runStepsNow"] = Napi::Function::New(env, RunStepsNow, "runStepsNow");
}

} // namespace fairway
