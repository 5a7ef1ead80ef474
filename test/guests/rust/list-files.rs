//! list-files DIRECTORY…: every file below the directories with its size in bytes, sorted by path; directories end in `/`. Exit code 1 when one cannot be read.
use std::fs;
use std::io::{self, Write};
use std::path::Path;

fn walk(path: &Path, lines: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            lines.push(format!("{}/", entry.path().display()));
            walk(&entry.path(), lines)?;
        } else if kind.is_file() {
            lines.push(format!("{} {}", entry.path().display(), entry.metadata()?.len()));
        } else {
            lines.push(format!("{} ?", entry.path().display()));
        }
    }
    Ok(())
}

fn main() {
    let mut code = 0;
    for directory in std::env::args().skip(1) {
        let mut lines = Vec::new();
        if let Err(error) = walk(Path::new(&directory), &mut lines) {
            eprintln!("list-files: {directory}: {error}");
            code = 1;
        }
        lines.sort();
        let mut out = io::stdout().lock();
        for line in lines {
            if writeln!(out, "{line}").is_err() {
                code = 1;
            }
        }
    }
    std::process::exit(code);
}
