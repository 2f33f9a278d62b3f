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
        println!(
            "cargo::rerun-if-changed={}",
            crate_folder.join("../../web").display()
        );
    }
    files.sort();
    let mut source = String::from("&[\n");
    for file in &files {
        let name = file
            .strip_prefix(&dist)?
            .to_str()
            .ok_or("a file name is not UTF-8")?;
        let path = file.canonicalize()?;
        let path = path.to_str().ok_or("a path is not UTF-8")?;
        writeln!(
            source,
            "    ({:?}, include_bytes!({path:?})),",
            format!("/{name}")
        )?;
        println!("cargo::rerun-if-changed={path}");
    }
    source.push_str("]\n");
    fs::write(
        PathBuf::from(std::env::var("OUT_DIR")?).join("dashboard.rs"),
        source,
    )?;
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
