// Many entries of a map at once: by the kernel's batches where the map type has them, else
// key by key.
#include <algorithm>

#include "map.h"

namespace fairway
{
namespace
{

// Kernel-internal number that bpf(2) returns for a map type without batches.
constexpr int kENotSupp = 524;

bool IsMissing(int error)
{
	return error == -kENotSupp || error == -EOPNOTSUPP || error == -EINVAL;
}

} // namespace

Napi::Value BpfMap::UpdateBatch(const Napi::CallbackInfo &info)
{
	Call call = Begin(info, "update");
	Bytes keys = call.Buffers(0, "keys", description_.key_size);
	size_t count = keys.length / description_.key_size;
	Bytes values = call.Buffer(1, "values", count * value_bytes_);
	uint32_t flags = call.Has(2) ? call.Integer(2, "flags", 0, UINT32_MAX) : 0;
	if (count > UINT32_MAX)
		call.Range("at most 2^32 - 1 keys", std::to_string(count));

	size_t done = 0;
	// The kernel's batches know no flags.
	if (flags == 0 && count > 0) {
		uint32_t batch = count;
		int error = bpf_map_update_batch(fd(), keys.data, values.data, &batch, nullptr);
		if (error && !IsMissing(error))
			call.FailAt(batch, count, error);
		done = error ? 0 : count;
	}
	for (; done < count; done++) {
		int error = bpf_map_update_elem(fd(), keys.data + done * description_.key_size,
						values.data + done * value_bytes_, flags);
		if (error)
			call.FailAt(done, count, error);
	}
	return info.Env().Undefined();
}

Napi::Value BpfMap::DeleteBatch(const Napi::CallbackInfo &info)
{
	Call call = Begin(info, "delete from");
	Bytes keys = call.Buffers(0, "keys", description_.key_size);
	size_t count = keys.length / description_.key_size;
	if (count > UINT32_MAX)
		call.Range("at most 2^32 - 1 keys", std::to_string(count));

	size_t deleted = 0;
	size_t done = 0;
	bool batches = true;
	while (done < count) {
		const uint8_t *rest = keys.data + done * description_.key_size;
		uint32_t batch = batches ? count - done : 1;
		int error = batches ? bpf_map_delete_batch(fd(), rest, &batch, nullptr)
				    : bpf_map_delete_elem(fd(), rest);
		if (batches && IsMissing(error)) {
			batches = false;
			continue;
		}
		// A batch ends at the first key that is not there: go on behind it.
		size_t gone = error && !batches ? 0 : batch;
		if (error && error != -ENOENT)
			call.FailAt(done + gone, count, error);
		deleted += gone;
		done += gone + (error ? 1 : 0);
	}
	return Napi::Number::New(info.Env(), deleted);
}

Napi::Value BpfMap::Entries(const Napi::CallbackInfo &info)
{
	Call call = Begin(info, "list");
	std::vector<uint8_t> keys;
	std::vector<uint8_t> values;
	if (!ReadBatched(call, keys, values)) {
		keys.clear();
		values.clear();
		ReadSingly(call, keys, values);
	}
	Napi::Object result = Napi::Object::New(info.Env());
	result["keys"] = Napi::Buffer<uint8_t>::Copy(info.Env(), keys.data(), keys.size());
	result["values"] = Napi::Buffer<uint8_t>::Copy(info.Env(), values.data(), values.size());
	return result;
}

// False: the map type has no batches, or its entries changed too fast for one.
bool BpfMap::ReadBatched(const Call &call, std::vector<uint8_t> &keys, std::vector<uint8_t> &values)
{
	const size_t key_size = description_.key_size;
	// A cursor is a bucket number for hashes, a key for other types.
	std::vector<uint8_t> from(std::max<size_t>(key_size, 8));
	std::vector<uint8_t> to(from.size());
	uint32_t room = std::min<uint32_t>(description_.max_entries, 4096);
	size_t count = 0;
	for (bool first = true;; first = false) {
		uint32_t batch = room;
		int error;
		for (;;) {
			keys.resize((count + room) * key_size);
			values.resize((count + room) * value_bytes_);
			batch = room;
			error = bpf_map_lookup_batch(fd(), first ? nullptr : from.data(), to.data(),
						     keys.data() + count * key_size,
						     values.data() + count * value_bytes_, &batch,
						     nullptr);
			// One bucket of the hash holds more than there is room for.
			if (error != -ENOSPC || room > UINT32_MAX / 2)
				break;
			room *= 2;
		}
		// EINTR: entries of an array-like type vanished while they were read.
		if (IsMissing(error) || error == -EINTR)
			return false;
		if (error && error != -ENOENT)
			call.Fail(error);
		count += batch;
		if (error == -ENOENT)
			break;
		std::swap(from, to);
	}
	keys.resize(count * key_size);
	values.resize(count * value_bytes_);
	return true;
}

void BpfMap::ReadSingly(const Call &call, std::vector<uint8_t> &keys, std::vector<uint8_t> &values)
{
	const size_t key_size = description_.key_size;
	std::vector<uint8_t> key(key_size);
	std::vector<uint8_t> value(value_bytes_);
	int error = bpf_map_get_next_key(fd(), nullptr, key.data());
	for (size_t steps = 0; !error; steps++) {
		// After a key that was deleted meanwhile the kernel starts anew: without a bound
		// that might never end.
		if (steps >= 2 * static_cast<size_t>(description_.max_entries))
			call.Fail(EAGAIN);
		error = bpf_map_lookup_elem(fd(), key.data(), value.data());
		if (!error) {
			keys.insert(keys.end(), key.begin(), key.end());
			values.insert(values.end(), value.begin(), value.end());
		} else if (error != -ENOENT) {
			break;
		}
		error = bpf_map_get_next_key(fd(), key.data(), key.data());
	}
	if (error != -ENOENT)
		call.Fail(error);
}

} // namespace fairway
