//! The config file, watched for changes.
//!
//! **Mechanics.** Folders are watched and not the file: editors replace files, and Kubernetes a link through which the
//! file's own leads. They are the folder of the file and that of each link on the way to it. Whatever happens in one
//! of them has the file looked at, and only what has changed is told.
//!
//! **Edges.** Where the way leads elsewhere, it is watched there once it is [followed](Watched::follow), which is to be
//! done before the file is read: what changes after that is told.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

/// The most links on the way to a file that are followed; the system follows no more.
const LINKS_MAX: usize = 40;

/// A file that is watched until this is dropped.
pub(crate) struct Watched {
    file: PathBuf,
    watcher: RecommendedWatcher,
    folders: BTreeSet<PathBuf>,
}

impl Watched {
    /// Says `()` whenever the file may have changed, and once at first: it may have since it was read. `None` when
    /// nothing can be watched, which is logged.
    pub(crate) fn new(file: &Path, changed: mpsc::Sender<()>) -> Option<Watched> {
        let (first, seen, looked_at) = (changed.clone(), Mutex::new(stamp(file)), file.to_owned());
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| event.kind.is_access()) {
                return;
            }
            let now = stamp(&looked_at);
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *seen != now {
                *seen = now;
                // A change that is already announced covers this one.
                let _ = changed.try_send(());
            }
        });
        let watcher = watcher.inspect_err(|error| not_watched(file, error)).ok()?;
        let mut watched = Watched { file: file.to_owned(), watcher, folders: BTreeSet::new() };
        watched.follow();
        let _ = first.try_send(());
        Some(watched)
    }

    /// Watches the way to the file as it is now.
    pub(crate) fn follow(&mut self) {
        let folders = folders_to(&self.file);
        for folder in self.folders.difference(&folders) {
            // Where it is gone, so is the watch.
            let _ = self.watcher.unwatch(folder);
        }
        self.folders.retain(|folder| folders.contains(folder));
        for folder in folders {
            if self.folders.contains(&folder) {
                continue;
            }
            match self.watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => _ = self.folders.insert(folder),
                Err(error) => not_watched(&folder, &error),
            }
        }
    }
}

fn not_watched(what: &Path, error: &notify::Error) {
    tracing::warn!(what = %what.display(), %error, "not watched for changes of the config; reload with SIGHUP");
}

/// What tells a file from what it was; `None` where there is none.
fn stamp(file: &Path) -> Option<impl PartialEq + use<>> {
    let of = fs::metadata(file).ok()?;
    Some((of.dev(), of.ino(), of.size(), of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec()))
}

/// The folder of this file, and that of each link on the way to it.
fn folders_to(file: &Path) -> BTreeSet<PathBuf> {
    let parts = |path: &Path| path.iter().rev().map(OsString::from).collect::<Vec<_>>();
    let (mut folders, mut links) = (BTreeSet::new(), 0);
    let (mut at, mut left) = (PathBuf::from("."), parts(file));
    while let Some(part) = left.pop() {
        let next = at.join(&part);
        match fs::read_link(&next) {
            Ok(target) if links < LINKS_MAX => {
                links += 1;
                folders.insert(at.clone());
                left.extend(parts(&target));
            }
            Ok(_) | Err(_) => {
                if left.is_empty() {
                    folders.insert(at);
                }
                at = next;
            }
        }
    }
    folders
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn folders_are_those_of_the_file_and_of_every_link_to_it() {
        let root = std::env::temp_dir().join(format!("seawall-watched-{}", std::process::id()));
        let root = |name: &str| root.join(name);
        let _ = fs::remove_dir_all(root(""));
        for folder in ["etc", "mount/first", "mount/second"] {
            fs::create_dir_all(root(folder)).unwrap();
        }
        fs::write(root("mount/first/a.toml"), "").unwrap();
        symlink(root("mount/a.toml"), root("etc/a.toml")).unwrap();
        symlink("..data/a.toml", root("mount/a.toml")).unwrap();
        symlink("first", root("mount/..data")).unwrap();
        symlink("loop", root("mount/loop")).unwrap();
        let folders = |file: &str| {
            let folders = folders_to(&root(file)).into_iter();
            let folders = folders.map(|folder| folder.strip_prefix(root("")).unwrap().display().to_string());
            folders.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(folders("etc/a.toml"), "etc mount mount/first");
        assert_eq!(folders("mount/..data/a.toml"), "mount mount/first");
        assert_eq!(folders("mount/../mount/first/a.toml"), "mount/../mount/first");
        assert_eq!(folders("mount/first/none"), "mount/first");
        assert_eq!(folders("mount/loop"), "mount");
        fs::remove_dir_all(root("")).unwrap();
    }
}
