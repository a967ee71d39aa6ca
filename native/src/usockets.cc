#include "usockets.h"

#include <dlfcn.h>

namespace halfway {

namespace {

template <typename Function> bool find(void *library, const char *name, Function &function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

} // namespace

const char *USockets::load(const char *binaryPath) {
  // Finds the copy that Node has loaded; never loads one of its own, which would have loops and sockets of its own.
  void *library = dlopen(binaryPath, RTLD_NOW | RTLD_NOLOAD);
  if (library == nullptr) return "the loaded binary";

  struct {
    const char *name;
    bool found;
  } const symbols[] = {
      {"us_socket_write", find(library, "us_socket_write", socket_write)},
      {"us_socket_shutdown", find(library, "us_socket_shutdown", socket_shutdown)},
      {"us_socket_close", find(library, "us_socket_close", socket_close)},
      {"us_socket_is_closed", find(library, "us_socket_is_closed", socket_is_closed)},
      {"us_socket_timeout", find(library, "us_socket_timeout", socket_timeout)},
      {"us_socket_long_timeout", find(library, "us_socket_long_timeout", socket_long_timeout)},
      {"us_socket_remote_port", find(library, "us_socket_remote_port", socket_remote_port)},
      {"us_socket_context", find(library, "us_socket_context", socket_context)},
      {"us_socket_context_loop", find(library, "us_socket_context_loop", context_loop)},
      {"us_create_socket_context", find(library, "us_create_socket_context", create_context)},
      {"us_adopt_accepted_socket", find(library, "us_adopt_accepted_socket", adopt_socket)},
      {"us_socket_context_on_open", find(library, "us_socket_context_on_open", context_on_open)},
      {"us_socket_context_on_timeout", find(library, "us_socket_context_on_timeout", context_on_timeout)},
      {"us_socket_context_on_long_timeout", find(library, "us_socket_context_on_long_timeout", context_on_long_timeout)},
      {"us_socket_context_on_data", find(library, "us_socket_context_on_data", context_on_data)},
      {"us_socket_context_on_writable", find(library, "us_socket_context_on_writable", context_on_writable)},
      {"us_socket_context_on_end", find(library, "us_socket_context_on_end", context_on_end)},
      {"us_socket_context_on_close", find(library, "us_socket_context_on_close", context_on_close)},
      {"us_poll_change", find(library, "us_poll_change", poll_change)},
      {"us_poll_fd", find(library, "us_poll_fd", poll_fd)},
  };
  dlclose(library); // Only the count that dlopen raised: Node keeps the binary.
  for (const auto &symbol : symbols) {
    if (!symbol.found) return symbol.name;
  }
  return nullptr;
}

} // namespace halfway
