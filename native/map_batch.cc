// Many entries of a map at once: in batches where the map type supports them, otherwise key by key.
#include <algorithm>

#include "map.h"

namespace fairway
{
namespace
{

// Kernel-internal number that bpf(2) returns for a map type without batches.
constexpr int kENotSupp = 524;

// The first byte of a cursor.
constexpr uint8_t kBatched = 1;
constexpr uint8_t kByKey = 2;

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
	// The kernel's batch operations support no flags.
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
		// A batch stops at the first missing key: continue after it.
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

// A part of a large map: a call is short, whatever the map's size. The cursor is opaque to JavaScript:
// its first byte says how the rest is read, as the kernel's own (a bucket, an index) or as a key.
Napi::Value BpfMap::Slice(const Napi::CallbackInfo &info)
{
	Call call = Begin(info, "list");
	const size_t key_size = description_.key_size;
	const size_t cursor_size = std::max<size_t>(key_size, 8);
	Bytes cursor = { nullptr, 0 };
	if (!call[0].IsNull())
		cursor = call.Buffer(0, "a cursor", 1 + cursor_size);
	uint32_t room = call.Integer(1, "entries", 1, 1 << 20);
	std::vector<uint8_t> keys;
	std::vector<uint8_t> values;
	std::vector<uint8_t> next(1 + cursor_size);
	bool more = true;
	uint32_t count = 0;
	bool batched = !cursor.data || cursor.data[0] == kBatched;
	while (batched) {
		keys.resize(room * key_size);
		values.resize(room * value_bytes_);
		count = room;
		int error = bpf_map_lookup_batch(fd(), cursor.data ? cursor.data + 1 : nullptr,
						 next.data() + 1, keys.data(), values.data(),
						 &count, nullptr);
		next[0] = kBatched;
		if (error == -ENOSPC && room <= UINT32_MAX / 2) {
			// One bucket of the hash table holds more than fits.
			room *= 2;
			continue;
		}
		if (!cursor.data && IsMissing(error)) {
			batched = false;
			break;
		}
		if (error && error != -ENOENT)
			call.Fail(error);
		more = !error;
		break;
	}
	if (!batched) {
		next[0] = kByKey;
		more = SliceSingly(call, cursor.data ? cursor.data + 1 : nullptr, room, keys,
				   values, next.data() + 1);
		count = key_size ? keys.size() / key_size : 0;
	}
	Napi::Object result = Napi::Object::New(info.Env());
	result["keys"] = Napi::Buffer<uint8_t>::Copy(info.Env(), keys.data(), count * key_size);
	result["values"] =
		Napi::Buffer<uint8_t>::Copy(info.Env(), values.data(), count * value_bytes_);
	if (more)
		result["next"] = Napi::Buffer<uint8_t>::Copy(info.Env(), next.data(), next.size());
	return result;
}

// False: that was the last. `last` becomes the key to go on behind.
bool BpfMap::SliceSingly(const Call &call, const uint8_t *from, uint32_t room,
			 std::vector<uint8_t> &keys, std::vector<uint8_t> &values, uint8_t *last)
{
	const size_t key_size = description_.key_size;
	std::vector<uint8_t> key(key_size);
	std::vector<uint8_t> value(value_bytes_);
	keys.clear();
	values.clear();
	int error = bpf_map_get_next_key(fd(), from, key.data());
	for (uint32_t steps = 0; !error && steps < room; steps++) {
		error = bpf_map_lookup_elem(fd(), key.data(), value.data());
		if (error && error != -ENOENT)
			break;
		if (!error) {
			keys.insert(keys.end(), key.begin(), key.end());
			values.insert(values.end(), value.begin(), value.end());
		}
		std::copy(key.begin(), key.end(), last);
		error = bpf_map_get_next_key(fd(), key.data(), key.data());
	}
	if (error && error != -ENOENT)
		call.Fail(error);
	return !error;
}

// The values of a per-CPU map as words of 64 bits, each summed over all CPUs: JavaScript makes a
// BigInt of each word of each CPU otherwise.
Napi::Value BpfMap::Sums(const Napi::CallbackInfo &info)
{
	Call call = Begin(info, "sum up");
	Bytes keys = call.Buffers(0, "keys", description_.key_size);
	if (description_.value_size == 0 || description_.value_size % 8 != 0)
		call.Range("values of 64 bit words",
			   std::to_string(description_.value_size) + " bytes");
	const size_t count = keys.length / description_.key_size;
	const size_t words = description_.value_size / 8;
	const size_t cpus = value_bytes_ / description_.value_size;
	auto sums = Napi::BigUint64Array::New(info.Env(), count * words);
	std::vector<uint64_t> value(cpus * words);
	for (size_t index = 0; index < count; index++) {
		int error = bpf_map_lookup_elem(fd(), keys.data + index * description_.key_size,
						value.data());
		if (error == -ENOENT)
			continue;
		if (error)
			call.FailAt(index, count, error);
		for (size_t at = 0; at < value.size(); at++)
			sums.Data()[index * words + at % words] += value[at];
	}
	return sums;
}

// Returns false if the map type has no batches, or if its entries change too fast for one.
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
			// One bucket of the hash table holds more than fits.
			if (error != -ENOSPC || room > UINT32_MAX / 2)
				break;
			room *= 2;
		}
		// EINTR: entries of an array-like type disappeared while they were read.
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
		// After a key that was deleted meanwhile the kernel starts again from the
		// beginning: without a bound this might never end.
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
