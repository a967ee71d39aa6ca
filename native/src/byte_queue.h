#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace halfway {

/** Bytes that wait, in one piece. Holds no memory while it is empty. */
class ByteQueue {
public:
  ByteQueue() = default;
  ByteQueue(const ByteQueue &) = delete;
  ByteQueue &operator=(const ByteQueue &) = delete;
  ~ByteQueue() { free(data_); }

  bool empty() const { return begin_ == end_; }
  size_t size() const { return end_ - begin_; }
  const char *data() const { return data_ + begin_; }

  void append(const char *bytes, size_t length) {
    if (length == 0) return;
    if (end_ + length > capacity_) make_room(length);
    memcpy(data_ + end_, bytes, length);
    end_ += length;
  }

  void consume(size_t length) {
    begin_ += length;
    if (begin_ == end_) clear();
  }

  void clear() {
    free(data_);
    data_ = nullptr;
    begin_ = end_ = capacity_ = 0;
  }

private:
  char *data_ = nullptr;
  size_t begin_ = 0;
  size_t end_ = 0;
  size_t capacity_ = 0;

  void make_room(size_t length) {
    const size_t used = size();
    if (used + length <= capacity_ && begin_ >= capacity_ / 2) {
      memmove(data_, data_ + begin_, used);
    } else {
      // Exact at first, for most queues are filled once and then drained; doubling afterwards.
      const size_t capacity = std::max(used + length, data_ == nullptr ? size_t{4096} : 2 * capacity_);
      char *data = static_cast<char *>(malloc(capacity));
      if (data == nullptr) abort();
      if (used != 0) memcpy(data, data_ + begin_, used);
      free(data_);
      data_ = data;
      capacity_ = capacity;
    }
    begin_ = 0;
    end_ = used;
  }
};

} // namespace halfway
