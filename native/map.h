// A BPF map. Checks keys and values against the map's sizes.
#pragma once

#include <linux/bpf.h>

#include <vector>

#include "handle.h"

namespace fairway
{

class BpfMap : public Handle<BpfMap>
{
public:
	static constexpr napi_type_tag kTag = { 0x6661697277617900, 1 };
	static constexpr const char *kClass = "BpfMap";
	static constexpr const char *kKind = "map";
	static constexpr const char *kInode = "map";
	static Napi::FunctionReference &Constructor(Addon &addon)
	{
		return addon.map;
	}
	static int OpenById(uint32_t id)
	{
		return bpf_map_get_fd_by_id(id);
	}
	static void Define(Napi::Env env, Napi::Object exports);

	explicit BpfMap(const Napi::CallbackInfo &info);
	const bpf_map_info &description() const
	{
		return description_;
	}

private:
	static Napi::Value Create(const Napi::CallbackInfo &info);

	Napi::Value Info(const Napi::CallbackInfo &info);
	Napi::Value Lookup(const Napi::CallbackInfo &info);
	Napi::Value Update(const Napi::CallbackInfo &info);
	Napi::Value Delete(const Napi::CallbackInfo &info);
	Napi::Value NextKey(const Napi::CallbackInfo &info);
	Napi::Value Btf(const Napi::CallbackInfo &info);

	// map_batch.cc
	Napi::Value UpdateBatch(const Napi::CallbackInfo &info);
	Napi::Value DeleteBatch(const Napi::CallbackInfo &info);
	Napi::Value Entries(const Napi::CallbackInfo &info);
	Napi::Value Slice(const Napi::CallbackInfo &info);
	Napi::Value Sums(const Napi::CallbackInfo &info);
	bool SliceSingly(const Call &call, const uint8_t *from, uint32_t room,
			 std::vector<uint8_t> &keys, std::vector<uint8_t> &values, uint8_t *last);
	bool ReadBatched(const Call &call, std::vector<uint8_t> &keys,
			 std::vector<uint8_t> &values);
	void ReadSingly(const Call &call, std::vector<uint8_t> &keys, std::vector<uint8_t> &values);

	bpf_map_info description_ = {};
	// Size of a value as the kernel returns it; for a per-CPU map, that of all CPUs.
	size_t value_bytes_ = 0;
};

} // namespace fairway
