//! Installs what a task needs and says so; where it may not, it says which command to run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs a command with its output on stderr, so that stdout stays the task's own.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// Writes a command as it would be typed.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The program that cargo runs as.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn is_on_path(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths)
        .chain(["/usr/sbin".into()])
        .any(|folder| folder.join(program).is_file())
}

/// Makes sure that programs are there: pairs of a program (or a file's path) and its Debian package.
pub fn debian(programs: &[(&str, &str)]) -> Result<()> {
    let is_there = |program: &str| {
        if program.starts_with('/') { Path::new(program).exists() } else { is_on_path(program) }
    };
    let missing: Vec<&str> = programs
        .iter()
        .filter(|(program, _)| !is_there(program))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    if !is_on_path("apt-get") || !is_root() {
        bail!(
            "missing Debian packages; run: sudo apt-get install --no-install-recommends {packages}"
        );
    }
    eprintln!("installing Debian packages: {packages}");
    run(Command::new("apt-get").args(["-qq", "update"]))?;
    run(Command::new("apt-get")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-qq", "install", "-y", "--no-install-recommends"])
        .args(&missing))
}

/// Tells whether this is the superuser.
pub fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Makes a Python virtual environment with what a requirements file lists and returns its Python.
pub fn python(root: &Path, name: &str, requirements: &[&str]) -> Result<PathBuf> {
    let folder = root.join("target").join(format!("python-{name}"));
    let python = folder.join("bin").join("python");
    let stamp = folder.join("installed.txt");
    let mut wanted = String::new();
    for file in requirements {
        let path = root.join(file);
        wanted += &fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
    }
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    eprintln!("installing Python packages into {}", folder.display());
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder))
        .context("on Debian: apt-get install python3-venv")?;
    for file in requirements {
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
        run(Command::new(&python).args(install).arg(root.join(file)))?;
    }
    fs::write(&stamp, wanted)?;
    Ok(python)
}

/// Builds the dashboard into `web/dist`, unless it is newer than its sources.
pub fn dashboard(root: &Path) -> Result<()> {
    let web = root.join("web");
    let built = web.join("dist").join("index.html");
    if let Ok(built) = fs::metadata(&built).and_then(|metadata| metadata.modified())
        && !any_newer(&web, built)?
    {
        return Ok(());
    }
    let npm = || {
        let mut npm = Command::new("npm");
        npm.current_dir(&web).args(["--loglevel", "error", "--no-fund", "--no-audit"]);
        npm
    };
    if !is_on_path("npm") {
        bail!("npm is missing: install Node.js 20 or newer");
    }
    eprintln!("building the dashboard");
    run(npm().arg("ci"))?;
    run(npm().args(["run", "build"]))
}

fn any_newer(folder: &Path, than: std::time::SystemTime) -> Result<bool> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if ["dist", "node_modules", "tests", "dev", "test-results"]
            .iter()
            .any(|skipped| name == *skipped)
        {
            continue;
        }
        let metadata = entry.metadata()?;
        let newer = if metadata.is_dir() {
            any_newer(&entry.path(), than)?
        } else {
            metadata.modified()? > than
        };
        if newer {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Builds the program with the dashboard in it and returns where it is.
pub fn program(root: &Path) -> Result<PathBuf> {
    dashboard(root)?;
    eprintln!("building stonechat");
    run(cargo().current_dir(root).args([
        "build",
        "--quiet",
        "--release",
        "--package",
        "stonechat",
    ]))?;
    Ok(target(root).join("release").join("stonechat"))
}

/// The folder into which cargo builds.
pub fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}
