# Two commands do everything: `make demo` and `make test`. Each installs what it misses, as root or
# with sudo, and says what it does.

.PHONY: demo test test-lab check bench install clean

demo:
	@scripts/demo

test:
	@scripts/test

# The VM tests with real Firecracker, on a machine with an emulated KVM.
test-lab:
	@scripts/test-lab

# What needs no VM: formatting, lints, architecture.
check:
	@scripts/check

bench:
	cargo xtask bench

install:
	cargo install --locked --path crates/osvm

clean:
	cargo clean
