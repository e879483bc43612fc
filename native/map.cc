#include "map.h"

#include <bpf/libbpf.h>

namespace fairway
{
namespace
{

bool IsPerCpu(uint32_t type)
{
	return type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_ARRAY ||
	       type == BPF_MAP_TYPE_LRU_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE;
}

} // namespace

BpfMap::BpfMap(const Napi::CallbackInfo &info) : Handle<BpfMap>(info)
{
	Call call(info, "describe", kKind, name());
	description_ = ReadInfo<bpf_map_info>(call, fd());
	value_bytes_ = description_.value_size;
	if (IsPerCpu(description_.type)) {
		int cpus = libbpf_num_possible_cpus();
		if (cpus < 0)
			call.Fail(cpus);
		value_bytes_ = (value_bytes_ + 7) / 8 * 8 * cpus;
	}
}

Napi::Value BpfMap::Create(const Napi::CallbackInfo &info)
{
	std::string name;
	Call call(info, "create", kKind, name);
	if (!info[0].IsObject())
		call.Type("an object with options", info[0]);
	Napi::Object options = info[0].As<Napi::Object>();
	name = call.String(options.Get("name"), "name");
	uint32_t type = call.Integer(options.Get("type"), "type", 1, UINT32_MAX);
	uint32_t key_size = call.Integer(options.Get("keySize"), "keySize", 0, UINT32_MAX);
	uint32_t value_size = call.Integer(options.Get("valueSize"), "valueSize", 0, UINT32_MAX);
	uint32_t max_entries = call.Integer(options.Get("maxEntries"), "maxEntries", 0, UINT32_MAX);
	LIBBPF_OPTS(bpf_map_create_opts, create);
	if (options.Has("flags"))
		create.map_flags = call.Integer(options.Get("flags"), "flags", 0, UINT32_MAX);
	Descriptor descriptor(bpf_map_create(static_cast<bpf_map_type>(type), name.c_str(),
					     key_size, value_size, max_entries, &create));
	if (!descriptor.valid())
		call.Fail(errno);
	return Wrap(info.Env(), std::move(descriptor), name);
}

Napi::Value BpfMap::Info(const Napi::CallbackInfo &info)
{
	Begin(info, "describe");
	Napi::Object result = Napi::Object::New(info.Env());
	result["id"] = description_.id;
	result["type"] = description_.type;
	result["name"] = Napi::String::New(info.Env(), description_.name);
	result["keySize"] = description_.key_size;
	result["valueSize"] = description_.value_size;
	result["maxEntries"] = description_.max_entries;
	result["flags"] = description_.map_flags;
	result["btfId"] = description_.btf_id;
	result["btfKeyTypeId"] = description_.btf_key_type_id;
	result["btfValueTypeId"] = description_.btf_value_type_id;
	return result;
}

Napi::Value BpfMap::Lookup(const Napi::CallbackInfo &info)
{
	Call call = Begin(info, "look up in");
	Bytes key = call.Buffer(0, "a key", description_.key_size);
	auto value = Napi::Buffer<uint8_t>::New(info.Env(), value_bytes_);
	int error = bpf_map_lookup_elem(fd(), key.data, value.Data());
	if (error == -ENOENT)
		return info.Env().Undefined();
	if (error)
		call.Fail(error);
	return value;
}

Napi::Value BpfMap::Update(const Napi::CallbackInfo &info)
{
	Call call = Begin(info, "update");
	Bytes key = call.Buffer(0, "a key", description_.key_size);
	Bytes value = call.Buffer(1, "a value", value_bytes_);
	uint32_t flags = call.Has(2) ? call.Integer(2, "flags", 0, UINT32_MAX) : 0;
	if (int error = bpf_map_update_elem(fd(), key.data, value.data, flags))
		call.Fail(error);
	return info.Env().Undefined();
}

Napi::Value BpfMap::Delete(const Napi::CallbackInfo &info)
{
	Call call = Begin(info, "delete from");
	Bytes key = call.Buffer(0, "a key", description_.key_size);
	int error = bpf_map_delete_elem(fd(), key.data);
	if (error && error != -ENOENT)
		call.Fail(error);
	return Napi::Boolean::New(info.Env(), error == 0);
}

Napi::Value BpfMap::NextKey(const Napi::CallbackInfo &info)
{
	Call call = Begin(info, "find the next key of");
	const uint8_t *key =
		info[0].IsNull() ? nullptr : call.Buffer(0, "a key", description_.key_size).data;
	auto next = Napi::Buffer<uint8_t>::New(info.Env(), description_.key_size);
	int error = bpf_map_get_next_key(fd(), key, next.Data());
	if (error == -ENOENT)
		return info.Env().Undefined();
	if (error)
		call.Fail(error);
	return next;
}

Napi::Value BpfMap::Btf(const Napi::CallbackInfo &info)
{
	Call call = Begin(info, "read the BTF of");
	if (!description_.btf_id)
		return info.Env().Undefined();
	Descriptor btf(bpf_btf_get_fd_by_id(description_.btf_id));
	if (!btf.valid())
		call.Fail(errno);
	uint32_t size = ReadInfo<bpf_btf_info>(call, btf.get()).btf_size;
	auto raw = Napi::Buffer<uint8_t>::New(info.Env(), size);
	bpf_btf_info request = {};
	request.btf = reinterpret_cast<uintptr_t>(raw.Data());
	request.btf_size = size;
	uint32_t length = sizeof(request);
	if (int error = bpf_obj_get_info_by_fd(btf.get(), &request, &length))
		call.Fail(error);
	return raw;
}

void BpfMap::Define(Napi::Env env, Napi::Object exports)
{
	Napi::Function type =
		DefineClass(env, kClass,
			    {
				    StaticMethod("openPinned", &BpfMap::OpenPinned),
				    StaticMethod("openId", &BpfMap::OpenId),
				    StaticMethod("create", &BpfMap::Create),
				    InstanceAccessor("info", &BpfMap::Info, nullptr),
				    InstanceMethod("lookup", &BpfMap::Lookup),
				    InstanceMethod("update", &BpfMap::Update),
				    InstanceMethod("delete", &BpfMap::Delete),
				    InstanceMethod("nextKey", &BpfMap::NextKey),
				    InstanceMethod("updateBatch", &BpfMap::UpdateBatch),
				    InstanceMethod("deleteBatch", &BpfMap::DeleteBatch),
				    InstanceMethod("entries", &BpfMap::Entries),
				    InstanceMethod("slice", &BpfMap::Slice),
				    InstanceMethod("sums", &BpfMap::Sums),
				    InstanceMethod("pin", &BpfMap::Pin),
				    InstanceMethod("btf", &BpfMap::Btf),
				    InstanceMethod("close", &BpfMap::Close),
			    });
	Addon::Of(env).map = Napi::Persistent(type);
	exports[kClass] = type;
}

void DefineMap(Napi::Env env, Napi::Object exports)
{
	BpfMap::Define(env, exports);
}

} // namespace fairway
