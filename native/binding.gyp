{
  # One addon. scripts/build-native.mjs runs this in a folder of its own, with sanitize=1 for the variant under
  # AddressSanitizer and UndefinedBehaviorSanitizer (without its vptr check: Node is built without RTTI). That one is
  # the tests', so there a warning is an error; an operator's newer compiler must not cost them the data plane.
  "variables": { "sanitize%": "0" },
  "targets": [
    {
      "target_name": "halfway_splice",
      "sources": ["src/addon.cc", "src/handover.cc", "src/plane.cc", "src/usockets.cc", "src/unmask.cc"],
      "cflags": ["-Wall", "-Wextra"],
      "cflags_cc!": ["-std=gnu++17", "-std=gnu++20"],
      "cflags_cc": ["-std=c++17", "-fvisibility=hidden"],
      "libraries": ["-ldl"],
      "conditions": [
        [
          "sanitize==1",
          {
            "cflags": ["-Werror", "-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize=vptr", "-fno-sanitize-recover=undefined"],
            "ldflags": ["-fsanitize=address,undefined"],
            "defines": ["_GLIBCXX_ASSERTIONS"],
          },
          { "cflags": ["-O3"] },
        ],
      ],
    }
  ],
}
