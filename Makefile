# Everything a newcomer or CI runs.
VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
ARGS   ?=
UV     := 0.13.9

# Two processes, a test file in one of them: the fixtures of a file are made once.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

# TensorRT's plugin registry without a GPU, for the tests of the plugins: two versions, which cannot
# live in one environment, each in a folder of its own.
LEAN   := $(if $(filter x86_64,$(shell uname -m)),build/lean/10.16.1.11 build/lean/11.4.0.106)

# The bindings of older versions, which run over the library of 10.16, and an older NumPy: both are put
# before what is installed.
OLDER  := $(if $(filter x86_64,$(shell uname -m)),$(addprefix build/bindings/,10.3.0 10.9.0.34 10.13.3.9) \
	build/numpy/1.26.4 build/cuda-bindings/12.8.0)

# A Jetson's processor, emulated: Debian's Python for arm64, and TensorRT's registry. Its tests are
# skipped where `apt-get install qemu-user-static mmdebstrap g++-aarch64-linux-gnu` was not done.
AARCH64 := $(if $(and $(shell command -v qemu-aarch64-static),$(shell command -v mmdebstrap)),build/aarch64)

# A Triton server in a wheel: the binary and its Python backend. Only unpacked; its dependencies would
# bring an older numpy.
TRITON := $(if $(filter x86_64,$(shell uname -m)),build/triton)

# A headless Chromium in an npm package, for the tests of the report's page. They are skipped without
# npm, unless a Chromium is installed or named by MASKRT_CHROMIUM.
CHROMIUM := $(if $(filter x86_64,$(shell uname -m)),$(if $(shell command -v npm),build/chromium))

.PHONY: build/types help demo test test-slow lint types imports docs wheel release-check format lock clean

help:
	@echo 'make demo     install into .venv, then do the whole job once on the demo model'
	@echo 'make test     install into .venv, then run the fast tests'
	@echo 'make check    what CI runs: lint, types, imports, the docs, all tests, the wheel'

$(VENV)/.demo: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	touch $@

# What CI and developers have is locked, by hash; `make demo` has what the bounds of pyproject.toml give.
$(VENV)/.dev: pyproject.toml requirements/dev.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	$(BIN)/maskrt demo --output build/demo.maskrt $(ARGS)

test: $(VENV)/.dev $(LEAN) build/examples/.made
	$(PYTEST) -m 'not slow' $(ARGS)

build/lean/%: | $(VENV)/.dev
	rm -rf $@.part
	$(BIN)/python -m pip install --quiet --no-deps --target $@.part \
		tensorrt-lean-cu13==$* tensorrt-lean-cu13-libs==$* tensorrt-lean-cu13-bindings==$*
	mv $@.part $@

build/bindings/%: | $(VENV)/.dev
	rm -rf $@.part
	$(BIN)/python -m pip install --quiet --no-deps --target $@.part tensorrt-lean-cu12-bindings==$*
	mv $@.part $@

build/numpy/%: | $(VENV)/.dev
	rm -rf $@.part
	$(BIN)/python -m pip install --quiet --no-deps --target $@.part numpy==$* ml_dtypes==0.5.4
	mv $@.part $@

# What JetPack 6 takes.
build/cuda-bindings/%: | $(VENV)/.dev
	rm -rf $@.part
	$(BIN)/python -m pip install --quiet --no-deps --target $@.part cuda-bindings==$*
	mv $@.part $@

build/aarch64: | $(VENV)/.dev
	rm -rf $@.part
	mkdir -p $@.part
	mmdebstrap --quiet --variant=extract --skip=check/qemu --arch=arm64 \
		--include=python3,python3-venv,libstdc++6,libgomp1 bookworm $(CURDIR)/$@.part/root
	$(BIN)/python -m pip install --quiet --no-deps --target $@.part/lean --only-binary=:all: \
		--platform manylinux_2_35_aarch64 --python-version 3.11 --implementation cp --abi cp311 --abi none \
		tensorrt-lean-cu13-libs==10.16.1.11 tensorrt-lean-cu13-bindings==10.16.1.11
	mv $@.part $@

# What the examples need (a server, a tracker, notebooks, a linter of Dockerfiles), over what is
# installed: the environment sees the packages of the other one.
build/%/.made: requirements/%.txt | $(VENV)/.dev
	rm -rf build/$*
	$(BIN)/python -m venv build/$*
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> $$(build/$*/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/beside.pth
	build/$*/bin/python -m pip install --quiet --no-deps --require-hashes --requirement $<
	touch $@

build/triton: | $(VENV)/.dev
	rm -rf $@.part
	$(BIN)/python -m pip install --quiet --no-deps --target $@.part nvidia-pytriton==0.7.0
	mv $@.part $@

UNPACK := const fs = require("fs"), [from, to] = process.argv.slice(1); \
	fs.writeFileSync(to, require("zlib").brotliDecompressSync(fs.readFileSync(from)))

# The package has the browser and the libraries that it needs, compressed.
build/chromium:
	rm -rf $@.part
	mkdir -p $@.part
	cd $@.part && npm pack --silent @sparticuz/chromium@153.0.0 && tar -xzf *.tgz
	cd $@.part && for file in chromium al2023.tar fonts.tar; do \
		node -e '$(UNPACK)' package/bin/$$file.br $$file || exit 1; done
	cd $@.part && tar -xf al2023.tar && tar -xf fonts.tar && rm -rf package *.tar *.tgz
	sed -i 's|<dir>.*</dir>|<dir prefix="relative">fonts</dir>|' $@.part/fonts.conf
	mv $@.part/chromium $@.part/chromium.real
	printf '%s\n' '#!/bin/sh' 'here=$$(dirname "$$(readlink -f "$$0")")' \
		'export LD_LIBRARY_PATH="$$here/lib" FONTCONFIG_FILE="$$here/fonts.conf"' \
		'exec "$$here/chromium.real" "$$@"' > $@.part/chromium
	chmod +x $@.part/chromium $@.part/chromium.real
	mv $@.part $@

test-slow: $(VENV)/.dev $(LEAN) $(OLDER) $(AARCH64) $(TRITON) $(CHROMIUM) build/examples/.made
	$(PYTEST) -m slow $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The folders are installed as maskrt.<folder>; tools that read files need to see them so.
build/types: $(VENV)/.dev
	rm -rf $@
	mkdir -p $@
	cp -r maskrt $@/maskrt
	cp -r core export calib plugins runtime $@/maskrt/

types: build/types
	MYPYPATH=build/types $(BIN)/mypy -p maskrt

imports: build/types
	cd build/types && $(CURDIR)/$(BIN)/lint-imports --no-logo --no-cache --config $(CURDIR)/pyproject.toml

wheel: $(VENV)/.dev
	rm -rf build/wheel build/lib build/bdist.*
	$(BIN)/python -m build --wheel --outdir build/wheel .
	$(BIN)/python tests/wheel_contents.py build/wheel/*.whl

# All that can be known before a release without making one, with each other Python that is supported and
# found here, by its name or by pyenv; PYTHONS= names others, or none.
PYTHONS ?= $(foreach version,3.10 3.12 3.13,$(firstword $(shell \
	ls -r $$(pyenv root 2>/dev/null)/versions/$(version).*/bin/python$(version) 2>/dev/null; \
	command -v python$(version))))

release-check: $(VENV)/.dev build/release/.made
	$(BIN)/python tests/release_check.py --tools build/release $(addprefix --python ,$(PYTHONS))

# After a change of dependencies; ARGS=--upgrade takes the newest of all.
lock: build/uv
	build/uv/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --custom-compile-command 'make lock' --quiet \
		--output-file requirements/dev.txt $(ARGS)
	for name in examples release; do build/uv/bin/uv pip compile requirements/$$name.in \
		--constraint requirements/dev.txt --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --custom-compile-command 'make lock' --quiet \
		--no-emit-package opencv-python --output-file requirements/$$name.txt $(ARGS) || exit 1; done

build/uv:
	$(PYTHON) -m venv $@.part
	$@.part/bin/python -m pip install --quiet --target $@.part/packages uv==$(UV)
	mkdir -p $@/bin && mv $@.part/packages/bin/uv $@/bin/uv
	rm -rf $@.part

# The site, build/site; a link or an anchor that is broken fails.
docs: $(VENV)/.dev
	$(BIN)/python docs/site/build.py

check: lint types imports docs test test-slow wheel

clean:
	rm -rf build *.egg-info
