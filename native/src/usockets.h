// The part of the uSockets C API that the uWebSockets.js binary exports and the data plane uses. No struct of it is
// known here: everything goes through these functions, so that a build with another layout is refused, not corrupted.
#pragma once

struct us_socket_t;
struct us_socket_context_t;
struct us_loop_t;
struct us_poll_t;

namespace halfway {

constexpr int kReadable = 1;
constexpr int kWritable = 2;

using SocketHandler = us_socket_t *(*)(us_socket_t *);
using DataHandler = us_socket_t *(*)(us_socket_t *, char *data, int length);
using CloseHandler = us_socket_t *(*)(us_socket_t *, int code, void *reason);
using OpenHandler = us_socket_t *(*)(us_socket_t *, int isClient, char *address, int addressLength);

/** Options of a context, all of them about TLS. uSockets takes them by value and reads none without it. */
struct ContextOptions {
  const void *none[8];
};

/** All functions take `ssl` first where uSockets does; it is always 0, for TLS ends in front of the data plane. */
struct USockets {
  int (*socket_write)(int ssl, us_socket_t *, const char *data, int length, int more);
  void (*socket_shutdown)(int ssl, us_socket_t *);
  us_socket_t *(*socket_close)(int ssl, us_socket_t *, int code, void *reason);
  int (*socket_is_closed)(int ssl, us_socket_t *);
  void (*socket_timeout)(int ssl, us_socket_t *, unsigned int seconds);
  void (*socket_long_timeout)(int ssl, us_socket_t *, unsigned int minutes);
  int (*socket_remote_port)(int ssl, us_socket_t *);
  us_socket_context_t *(*socket_context)(int ssl, us_socket_t *);
  us_loop_t *(*context_loop)(int ssl, us_socket_context_t *);
  us_socket_context_t *(*create_context)(int ssl, us_loop_t *, int extensionBytes, ContextOptions);
  us_socket_t *(*adopt_socket)(int ssl, us_socket_context_t *, int fd, unsigned int extensionBytes, char *address,
                               int addressLength);
  void (*context_on_open)(int ssl, us_socket_context_t *, OpenHandler);
  void (*context_on_timeout)(int ssl, us_socket_context_t *, SocketHandler);
  void (*context_on_long_timeout)(int ssl, us_socket_context_t *, SocketHandler);
  void (*context_on_data)(int ssl, us_socket_context_t *, DataHandler);
  void (*context_on_writable)(int ssl, us_socket_context_t *, SocketHandler);
  void (*context_on_end)(int ssl, us_socket_context_t *, SocketHandler);
  void (*context_on_close)(int ssl, us_socket_context_t *, CloseHandler);
  void (*poll_change)(us_poll_t *, us_loop_t *, int events);
  int (*poll_fd)(us_poll_t *);

  /**
   * Looks the functions up in the uWebSockets.js binary, which must be loaded already under exactly this path.
   * Returns what is missing, nullptr when nothing is.
   */
  const char *load(const char *binaryPath);
};

inline us_poll_t *poll_of(us_socket_t *socket) { return reinterpret_cast<us_poll_t *>(socket); }

} // namespace halfway
