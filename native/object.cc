#include "object.h"

#include <bpf/btf.h>

#include <cstring>

#include "error.h"
#include "map.h"
#include "program.h"

namespace fairway
{

BpfObject::BpfObject(const Napi::CallbackInfo &info) : Napi::ObjectWrap<BpfObject>(info)
{
	if (!info[0].IsExternal())
		throw Napi::TypeError::New(
			info.Env(), "Cannot construct BpfObject: expected BpfObject.open(path)");
	Seed *seed = info[0].As<Napi::External<Seed>>().Data();
	path_ = seed->path;
	object_.reset(std::exchange(seed->object, nullptr));
}

Call BpfObject::Begin(const Napi::CallbackInfo &info, const char *act) const
{
	Call call(info, act, "object", path_);
	if (state_ == State::kClosed)
		call.Closed(kClass);
	if (state_ == State::kLoading)
		call.Range("an object that is not being loaded",
			   "one before the end of loadAsync()");
	return call;
}

Call BpfObject::BeginBeforeLoad(const Napi::CallbackInfo &info, const char *act) const
{
	Call call = Begin(info, act);
	if (state_ != State::kOpen)
		call.Range("an object that is not loaded yet", "one after load()");
	return call;
}

Call BpfObject::BeginLoaded(const Napi::CallbackInfo &info, const char *act) const
{
	Call call = Begin(info, act);
	if (state_ != State::kLoaded)
		call.Range("a loaded object", state_ == State::kFailed ? "one that failed to load"
								       : "one before load()");
	return call;
}

bpf_map *BpfObject::FindMap(const Call &call, size_t index) const
{
	std::string name = call.String(index, "map name");
	bpf_map *map = bpf_object__find_map_by_name(object_.get(), name.c_str());
	if (!map)
		call.Range("the name of one of its maps", "\"" + name + "\"");
	return map;
}

bpf_program *BpfObject::FindProgram(const Call &call, size_t index) const
{
	std::string name = call.String(index, "program name");
	bpf_program *program = bpf_object__find_program_by_name(object_.get(), name.c_str());
	if (!program)
		call.Range("the name of one of its programs", "\"" + name + "\"");
	return program;
}

bpf_map *BpfObject::ReadOnlyMap() const
{
	const std::string section = ".rodata";
	bpf_map *map;
	bpf_object__for_each_map(map, object_.get())
	{
		// libbpf prefixes it with the object's name: "fairway_.rodata".
		std::string name = bpf_map__name(map);
		if (bpf_map__is_internal(map) && name.size() >= section.size() &&
		    name.compare(name.size() - section.size(), section.size(), section) == 0)
			return map;
	}
	return nullptr;
}

Napi::Value BpfObject::Open(const Napi::CallbackInfo &info)
{
	std::string path;
	Call call(info, "open", "object", path);
	path = call.String(0, "path");
	LogCapture log;
	Seed seed{ bpf_object__open_file(path.c_str(), nullptr), path };
	if (!seed.object)
		call.Fail(errno, log.text());
	std::unique_ptr<bpf_object, Close> owner(seed.object);
	Napi::Object object =
		Addon::Of(info.Env()).object.New({ Napi::External<Seed>::New(info.Env(), &seed) });
	owner.release();
	return object;
}

Napi::Value BpfObject::MapNames(const Napi::CallbackInfo &info)
{
	Begin(info, "list the maps of");
	Napi::Array names = Napi::Array::New(info.Env());
	bpf_map *map;
	bpf_object__for_each_map(map, object_.get())
	{
		if (!bpf_map__is_internal(map))
			names[names.Length()] = Napi::String::New(info.Env(), bpf_map__name(map));
	}
	return names;
}

Napi::Value BpfObject::ProgramNames(const Napi::CallbackInfo &info)
{
	Begin(info, "list the programs of");
	Napi::Array names = Napi::Array::New(info.Env());
	bpf_program *program;
	bpf_object__for_each_program(program, object_.get()) names[names.Length()] =
		Napi::String::New(info.Env(), bpf_program__name(program));
	return names;
}

Napi::Value BpfObject::ReadOnlyVariables(const Napi::CallbackInfo &info)
{
	Begin(info, "list the variables of");
	Napi::Object variables = Napi::Object::New(info.Env());
	const btf *types = bpf_object__btf(object_.get());
	int id = types ? btf__find_by_name_kind(types, ".rodata", BTF_KIND_DATASEC) : -1;
	if (id < 0)
		return variables;
	const btf_type *section = btf__type_by_id(types, id);
	const btf_var_secinfo *variable = btf_var_secinfos(section);
	for (int i = 0; i < btf_vlen(section); i++, variable++) {
		const btf_type *type = btf__type_by_id(types, variable->type);
		Napi::Object place = Napi::Object::New(info.Env());
		place["offset"] = variable->offset;
		place["size"] = variable->size;
		variables[btf__name_by_offset(types, type->name_off)] = place;
	}
	return variables;
}

Napi::Value BpfObject::SetMaxEntries(const Napi::CallbackInfo &info)
{
	Call call = BeginBeforeLoad(info, "size a map of");
	bpf_map *map = FindMap(call, 0);
	uint32_t entries = call.Integer(1, "entries", 1, UINT32_MAX);
	if (int error = bpf_map__set_max_entries(map, entries))
		call.Fail(error);
	return info.Env().Undefined();
}

Napi::Value BpfObject::ReuseMap(const Napi::CallbackInfo &info)
{
	Call call = BeginBeforeLoad(info, "reuse a map in");
	bpf_map *map = FindMap(call, 0);
	BpfMap &existing = call.Handle<BpfMap>(1);
	// libbpf would not fill a reused map, and setReadOnlyData() would silently be lost.
	if (map == ReadOnlyMap())
		call.Range("another map than the read-only data", bpf_map__name(map));
	// libbpf accepts any existing map, and programs would be verified against it.
	auto check = [&](const char *what, uint32_t wanted, uint32_t is) {
		if (wanted != is)
			call.Range(std::string(bpf_map__name(map)) + " with " + what + " " +
					   std::to_string(wanted),
				   std::to_string(is));
	};
	const bpf_map_info &description = existing.description();
	check("type", bpf_map__type(map), description.type);
	check("key size", bpf_map__key_size(map), description.key_size);
	check("value size", bpf_map__value_size(map), description.value_size);
	check("flags", bpf_map__map_flags(map), description.map_flags);
	LogCapture log;
	if (int error = bpf_map__reuse_fd(map, existing.fd()))
		call.Fail(error, log.text());
	return info.Env().Undefined();
}

Napi::Value BpfObject::SetAutoload(const Napi::CallbackInfo &info)
{
	Call call = BeginBeforeLoad(info, "choose the programs of");
	bpf_program *program = FindProgram(call, 0);
	if (int error = bpf_program__set_autoload(program, call.Boolean(1, "load")))
		call.Fail(error);
	return info.Env().Undefined();
}

Napi::Value BpfObject::SetReadOnlyData(const Napi::CallbackInfo &info)
{
	Call call = BeginBeforeLoad(info, "set read-only data of");
	uint32_t offset = call.Integer(0, "offset", 0, UINT32_MAX);
	Bytes value = call.Buffer(1, "value");
	bpf_map *map = ReadOnlyMap();
	size_t size = 0;
	void *data = map ? const_cast<void *>(bpf_map__initial_value(map, &size)) : nullptr;
	if (!data)
		call.Range("an object with read-only data", "one without");
	if (offset > size || value.length > size - offset)
		call.Range("bytes within its " + std::to_string(size),
			   std::to_string(value.length) + " at " + std::to_string(offset));
	if (value.length)
		memcpy(static_cast<char *>(data) + offset, value.data, value.length);
	return info.Env().Undefined();
}

Napi::Value BpfObject::GetMap(const Napi::CallbackInfo &info)
{
	Call call = BeginLoaded(info, "get a map of");
	bpf_map *map = FindMap(call, 0);
	Descriptor descriptor = Descriptor::Duplicate(bpf_map__fd(map));
	if (!descriptor.valid())
		call.Fail(errno);
	return BpfMap::Wrap(info.Env(), std::move(descriptor), bpf_map__name(map));
}

Napi::Value BpfObject::GetProgram(const Napi::CallbackInfo &info)
{
	Call call = BeginLoaded(info, "get a program of");
	bpf_program *program = FindProgram(call, 0);
	if (!bpf_program__autoload(program))
		call.Range("a program that was loaded",
			   std::string(bpf_program__name(program)) + " without autoload");
	Descriptor descriptor = Descriptor::Duplicate(bpf_program__fd(program));
	if (!descriptor.valid())
		call.Fail(errno);
	return BpfProgram::Wrap(info.Env(), std::move(descriptor), bpf_program__name(program));
}

Napi::Value BpfObject::CloseObject(const Napi::CallbackInfo &info)
{
	if (state_ != State::kClosed)
		Begin(info, "close");
	object_.reset();
	state_ = State::kClosed;
	return info.Env().Undefined();
}

void BpfObject::Define(Napi::Env env, Napi::Object exports)
{
	Napi::Function type = DefineClass(
		env, kClass,
		{
			StaticMethod("open", &BpfObject::Open),
			InstanceAccessor("mapNames", &BpfObject::MapNames, nullptr),
			InstanceAccessor("programNames", &BpfObject::ProgramNames, nullptr),
			InstanceAccessor("readOnlyVariables", &BpfObject::ReadOnlyVariables,
					 nullptr),
			InstanceMethod("setMaxEntries", &BpfObject::SetMaxEntries),
			InstanceMethod("reuseMap", &BpfObject::ReuseMap),
			InstanceMethod("setAutoload", &BpfObject::SetAutoload),
			InstanceMethod("setReadOnlyData", &BpfObject::SetReadOnlyData),
			InstanceMethod("load", &BpfObject::Load),
			InstanceMethod("loadAsync", &BpfObject::LoadAsync),
			InstanceMethod("map", &BpfObject::GetMap),
			InstanceMethod("program", &BpfObject::GetProgram),
			InstanceMethod("verifierLog", &BpfObject::VerifierLog),
			InstanceMethod("close", &BpfObject::CloseObject),
		});
	Addon::Of(env).object = Napi::Persistent(type);
	exports[kClass] = type;
}

void DefineObject(Napi::Env env, Napi::Object exports)
{
	BpfObject::Define(env, exports);
}

} // namespace fairway
