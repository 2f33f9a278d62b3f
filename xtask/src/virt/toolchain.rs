//! Finds a Rust compiler that builds for the chip.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The chip's target.
pub(super) const TARGET: &str = "riscv32imc-unknown-none-elf";

const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_PACKAGES: &str = "rustc-web cargo-web rust-web-src lld";

/// A compiler that builds for the chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Toolchain {
    /// The toolchain that runs this program, with the target from rustup.
    Rustup,
    /// Debian's, which builds the target's `core` from source.
    Debian,
}

impl Toolchain {
    /// Finds one: rustup's where it has the target, else Debian's.
    ///
    /// # Errors
    /// Fails where neither is there, and says what to install.
    pub(super) fn find() -> Result<Self> {
        if rustup_has_target() {
            return Ok(Self::Rustup);
        }
        if debian_has_sources() && runs("ld.lld") {
            return Ok(Self::Debian);
        }
        bail!(
            "no Rust compiler here builds for {TARGET}; run `rustup target add {TARGET}`, \
             or on Debian `apt-get install {DEBIAN_PACKAGES}`"
        )
    }

    /// A command that builds packages of `firmware/` with the release profile.
    pub(super) fn build(self, firmware: &Path) -> Command {
        let mut command = match self {
            Self::Rustup => Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into())),
            Self::Debian => Command::new(DEBIAN_CARGO),
        };
        command
            .args(["build", "--quiet", "--release", "--target", TARGET])
            .current_dir(firmware)
            // What the host's build is told does not hold for the chip.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("CARGO_BUILD_TARGET");
        if self == Self::Debian {
            command
                .arg("-Zbuild-std=core")
                .env("RUSTC", DEBIAN_RUSTC)
                // `build-std` is not stable yet; the sources are those of this very compiler.
                .env("RUSTC_BOOTSTRAP", "1")
                .env_remove("RUSTUP_TOOLCHAIN")
                .env("CARGO_TARGET_RISCV32IMC_UNKNOWN_NONE_ELF_LINKER", "ld.lld");
        }
        command
    }
}

fn rustup_has_target() -> bool {
    Command::new("rustup").args(["target", "list", "--installed"]).output().is_ok_and(|output| {
        String::from_utf8_lossy(&output.stdout).lines().any(|line| line.trim() == TARGET)
    })
}

fn debian_has_sources() -> bool {
    let sysroot = || -> Result<String> {
        let output = Command::new(DEBIAN_RUSTC)
            .args(["--print", "sysroot"])
            .output()
            .context("no rustc of Debian's")?;
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    Path::new(DEBIAN_CARGO).exists()
        && sysroot().is_ok_and(|sysroot| {
            Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/src/lib.rs").exists()
        })
}

/// Whether a program can be started at all.
pub(super) fn runs(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}
