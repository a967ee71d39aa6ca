#include "handover.h"

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace halfway {

namespace {

/** In front of a datagram: how long the record is; what follows it was read of the connection. */
using RecordLength = uint16_t;

/** More descriptors than belong there are received to be closed, and not left to the kernel's mercy. */
constexpr size_t kDescriptorsMax = 4;

/** 0 when the name does not fit. An abstract name begins with a zero byte and is not ended by one. */
socklen_t address_of(const char *name, size_t nameLength, sockaddr_un &address) {
  memset(&address, 0, sizeof address);
  address.sun_family = AF_UNIX;
  if (nameLength == 0 || nameLength + 1 > sizeof address.sun_path) return 0;
  memcpy(address.sun_path + 1, name, nameLength);
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + nameLength);
}

int open_socket() { return ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); }

union Control {
  cmsghdr header; // for alignment
  char bytes[CMSG_SPACE(kDescriptorsMax * sizeof(int))];
};

} // namespace

int open_hand_over_door(const char *name, size_t nameLength) {
  sockaddr_un address;
  const socklen_t length = address_of(name, nameLength, address);
  if (length == 0) return -1;
  const int door = open_socket();
  if (door < 0) return -1;
  if (::bind(door, reinterpret_cast<sockaddr *>(&address), length) == 0) return door;
  ::close(door);
  return -1;
}

int send_hand_over(const char *name, size_t nameLength, int fd, const char *record, size_t recordLength, const char *held,
                   size_t heldLength) {
  RecordLength prefix = static_cast<RecordLength>(recordLength);
  if (prefix != recordLength || sizeof prefix + recordLength + heldLength > kHandOverBytesMax) return EMSGSIZE;
  sockaddr_un address;
  const socklen_t length = address_of(name, nameLength, address);
  if (length == 0) return EINVAL;
  static const int sender = open_socket();
  if (sender < 0) return EMFILE;

  iovec parts[] = {{&prefix, sizeof prefix}, {const_cast<char *>(record), recordLength}, {const_cast<char *>(held), heldLength}};
  Control control{};
  msghdr message{};
  message.msg_name = &address;
  message.msg_namelen = length;
  message.msg_iov = parts;
  message.msg_iovlen = 3;
  message.msg_control = control.bytes;
  message.msg_controllen = CMSG_SPACE(sizeof fd);
  cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(header), &fd, sizeof fd);
  return ::sendmsg(sender, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? errno : 0;
}

Received receive_hand_over(int door, HandedOver &handed) {
  static char bytes[kHandOverBytesMax];
  Control control{};
  iovec part{bytes, sizeof bytes};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof control.bytes;
  const ssize_t received = ::recvmsg(door, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (received < 0) return Received::nothing;

  int fds[kDescriptorsMax];
  size_t count = 0;
  for (cmsghdr *header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t here = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < here && count < kDescriptorsMax; i += 1) {
      memcpy(&fds[count++], CMSG_DATA(header) + i * sizeof(int), sizeof(int));
    }
  }
  RecordLength recordLength = 0;
  const auto length = static_cast<size_t>(received);
  const bool isWhole = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0 && length >= sizeof recordLength;
  if (isWhole) memcpy(&recordLength, bytes, sizeof recordLength);
  if (!isWhole || count != 1 || sizeof recordLength + recordLength > length) {
    while (count != 0) ::close(fds[--count]);
    return Received::junk;
  }
  const char *record = bytes + sizeof recordLength;
  handed = {fds[0], record, recordLength, record + recordLength, length - sizeof recordLength - recordLength};
  return Received::connection;
}

} // namespace halfway
