//! Lists the files of the built dashboard, so that they become part of the program.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let crate_folder = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let dist = crate_folder.join("../../web/dist");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", dist.display());
    let mut files = Vec::new();
    if dist.join("index.html").is_file() {
        collect(&dist, &mut files)?;
    } else {
        // The folder does not exist yet: look again when it appears beside its sources.
        println!("cargo::rerun-if-changed={}", crate_folder.join("../../web").display());
    }
    files.sort();
    // Copies, so that a dashboard being built anew cannot pull files away from the compiler.
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let mut source = String::from("&[\n");
    for (number, file) in files.iter().enumerate() {
        let name = file.strip_prefix(&dist)?.to_str().ok_or("a file name is not UTF-8")?;
        let copy = format!("dashboard-{number}");
        fs::copy(file, out.join(&copy))?;
        let copy = format!("concat!(env!(\"OUT_DIR\"), \"/{copy}\")");
        writeln!(source, "    ({:?}, include_bytes!({copy})),", format!("/{name}"))?;
    }
    source.push_str("]\n");
    fs::write(out.join("dashboard.rs"), source)?;
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        println!("cargo::rerun-if-changed={}", path.display());
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
