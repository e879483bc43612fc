// The memory of a ring buffer map that the kernel and its one reader share: a page with the
// reader's position, a page with the writers' position, and the data, mapped twice in a row so that a
// record across the end is contiguous (the kernel's Documentation/bpf/ringbuf.rst).
//
// Every mapped page counts as resident memory of the process, both times, with or without records. So
// the data is mapped only while records are read.
#pragma once

#include <linux/bpf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace fairway
{

// Mapped pages of a map, for the lifetime of this object.
class Mapping
{
public:
	Mapping() = default;
	Mapping(int fd, size_t offset, size_t length, int protection)
	    : length_(length),
	      start_(mmap(nullptr, length, protection, MAP_SHARED, fd, static_cast<off_t>(offset)))
	{
	}
	Mapping(const Mapping &) = delete;
	Mapping &operator=(const Mapping &) = delete;
	~Mapping()
	{
		if (valid())
			munmap(start_, length_);
	}

	// If false, errno says why.
	bool valid() const
	{
		return start_ != MAP_FAILED;
	}
	uint8_t *at(size_t offset) const
	{
		return static_cast<uint8_t *>(start_) + offset;
	}

private:
	size_t length_ = 0;
	void *start_ = MAP_FAILED;
};

class RingMemory
{
public:
	// `bytes`: max_entries of the map, a power of two. `fd` has to outlive this.
	RingMemory(int fd, uint32_t bytes)
	    : fd_(fd), mask_(bytes - 1), page_(sysconf(_SC_PAGESIZE)),
	      consumer_(fd, 0, page_, PROT_READ | PROT_WRITE),
	      producer_(fd, page_, page_, PROT_READ)
	{
	}

	// If false, errno says why.
	bool valid() const
	{
		return consumer_.valid() && producer_.valid();
	}

	// Calls deliver(bytes, size) for each record in order, until one is not yet complete or
	// deliver returns false; that record counts as read.
	template <class Deliver> void Consume(Deliver deliver)
	{
		unsigned long *position = reinterpret_cast<unsigned long *>(consumer_.at(0));
		unsigned long from = __atomic_load_n(position, __ATOMIC_ACQUIRE);
		const unsigned long to = __atomic_load_n(
			reinterpret_cast<unsigned long *>(producer_.at(0)), __ATOMIC_ACQUIRE);
		if (from == to)
			return;
		const size_t start = from & mask_ & ~(page_ - 1);
		const size_t first = (from & mask_) - start;
		Mapping data(fd_, 2 * page_ + start, first + (to - from), PROT_READ);
		// No memory for page tables now: retried later, because the ring stays readable.
		if (!data.valid())
			return;
		const unsigned long origin = from - first;
		for (bool more = true; more && from < to;) {
			uint8_t *record = data.at(from - origin);
			uint32_t header = __atomic_load_n(reinterpret_cast<uint32_t *>(record),
							  __ATOMIC_ACQUIRE);
			if (header & BPF_RINGBUF_BUSY_BIT)
				return;
			const uint32_t size = header & ~BPF_RINGBUF_DISCARD_BIT;
			from += (size + BPF_RINGBUF_HDR_SZ + 7) & ~7u;
			if (!(header & BPF_RINGBUF_DISCARD_BIT))
				more = deliver(record + BPF_RINGBUF_HDR_SZ, size);
			__atomic_store_n(position, from, __ATOMIC_RELEASE);
		}
	}

private:
	int fd_;
	unsigned long mask_;
	size_t page_;
	Mapping consumer_;
	Mapping producer_;
};

} // namespace fairway
