{
  # Nothing is built by gyp itself: `npm install` runs node-gyp where there is a binding.gyp,
  # and this hands over to CMake. CMake has a folder of its own below build/, because node-gyp
  # writes a Makefile into build/ as well.
  "targets": [
    {
      "target_name": "fairway",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "inputs": ["CMakeLists.txt"],
          "outputs": ["<(PRODUCT_DIR)/fairway.node"],
          "action": ["npx", "--no-install", "cmake-js", "compile", "--out", "build/native"]
        }
      ]
    }
  ]
}
