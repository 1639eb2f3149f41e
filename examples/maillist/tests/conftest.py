pytest_plugins = ["monsal.testing.plugin"]
