//! The main job on embedded defaults, and its installation.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup;

/// Installs the program with the dashboard in it, where cargo installs programs.
pub fn install(root: &Path) -> Result<()> {
    setup::dashboard(root)?;
    setup::run(setup::cargo().current_dir(root).args([
        "install",
        "--locked",
        "--path",
        "crates/cli",
    ]))
}

/// Builds everything and starts `stonechat demo` with `args`.
pub fn run(root: &Path, args: &[String]) -> Result<()> {
    let program = setup::program(root)?;
    let status = Command::new(&program)
        .arg("demo")
        .args(args)
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    if !status.success() {
        bail!("the demo ended with {status}");
    }
    Ok(())
}
