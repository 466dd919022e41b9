//! A log that is read by its name: also across its turning, and when another file takes its place.
//!
//! Logs are turned in two ways: renamed and begun anew (AWS calls), or copied away and cut (an
//! instance's services, which hold theirs open). Either way the log's last lines may be written between
//! two looks, and are then found in what the log was before.
//!
//! **Invariant:** a line is shown at most once; and one that was written is shown, as long as a file that
//! was read, or the copy that is kept of it, has it at the next look.

use std::{
    fs::{File, Metadata},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
};

/// A log's two names.
pub(super) trait Log {
    /// What has the log's name now.
    fn current(&self) -> io::Result<File>;
    /// What has the name that it gets when it is full.
    fn before(&self) -> io::Result<File>;
}

/// See the module.
#[derive(Debug)]
pub(super) struct Follower<L> {
    log: L,
    file: File,
    /// What had the second name when `file` was begun.
    before: Option<Stamp>,
}

/// Which file it is, and which content: a copy keeps the file and changes the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    id: (u64, u64),
    modified: (i64, i64),
    len: u64,
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        let modified = (found.mtime(), found.mtime_nsec());
        Self { id: id(found), modified, len: found.len() }
    }
}

fn id(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

impl<L: Log> Follower<L> {
    /// Fails if there is no log yet.
    pub(super) fn new(log: L) -> io::Result<Self> {
        let before = stamp_of_before(&log);
        Ok(Self { file: log.current()?, log, before })
    }

    /// Writes out what was not yet.
    pub(super) fn copy(&mut self, out: &mut impl Write) -> io::Result<()> {
        // Asked first: when another file has the name, nothing is added to the old one any more.
        match self.log.current() {
            Ok(current) => self.catch_up(current, out)?,
            // Gone, perhaps for good. It is still open here.
            Err(_) => rest(&mut self.file, out)?,
        }
        out.flush()
    }

    fn catch_up(&mut self, current: File, out: &mut impl Write) -> io::Result<()> {
        let (ours, now) = (self.file.metadata()?, current.metadata()?);
        if id(&ours) != id(&now) {
            rest(&mut self.file, out)?;
            self.before_from(0, out)?;
            self.file = current;
        } else if self.is_cut(current, now.len())? {
            let seen = self.file.stream_position()?;
            self.before_from(seen, out)?;
            self.file.seek(SeekFrom::Start(0))?;
        }
        rest(&mut self.file, out)
    }

    /// Whether the file was begun anew in its place: it is shorter than what was read, or than the copy that
    /// was made of it meanwhile, or does not begin as that.
    fn is_cut(&mut self, mut current: File, len: u64) -> io::Result<bool> {
        if len < self.file.stream_position()? {
            return Ok(true);
        }
        let Ok(mut before) = self.log.before() else { return Ok(false) };
        let found = before.metadata()?;
        if self.before == Some(Stamp::of(&found)) {
            return Ok(false);
        }
        if len < found.len() {
            return Ok(true);
        }
        let (copied, now) = (head(&mut before)?, head(&mut current)?);
        Ok(copied.iter().zip(&now).any(|(copied, now)| copied != now))
    }

    /// What the log was, if it became that since the last turn and is not the file that is open here.
    fn before_from(&mut self, position: u64, out: &mut impl Write) -> io::Result<()> {
        let known = std::mem::replace(&mut self.before, stamp_of_before(&self.log));
        let Ok(mut before) = self.log.before() else { return Ok(()) };
        let found = before.metadata()?;
        if known == Some(Stamp::of(&found)) || id(&found) == id(&self.file.metadata()?) {
            return Ok(());
        }
        before.seek(SeekFrom::Start(position))?;
        rest(&mut before, out)
    }
}

fn stamp_of_before(log: &impl Log) -> Option<Stamp> {
    Some(Stamp::of(&log.before().ok()?.metadata().ok()?))
}

/// Enough to tell: lines begin with their times.
fn head(file: &mut File) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    file.take(4096).read_to_end(&mut head)?;
    Ok(head)
}

fn rest(file: &mut File, out: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            read => out.write_all(&buffer[..read])?,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
    };

    use super::*;

    struct Named(PathBuf);

    impl Log for Named {
        fn current(&self) -> io::Result<File> {
            File::open(self.0.join("x.log"))
        }

        fn before(&self) -> io::Result<File> {
            File::open(self.0.join("x.log.1"))
        }
    }

    struct World {
        folder: tempfile::TempDir,
        follower: Follower<Named>,
    }

    impl World {
        /// A log that was turned before, and has been read.
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("x.log.1"), "long before: it is of no interest").unwrap();
            fs::write(folder.path().join("x.log"), "first\n").unwrap();
            let follower = Follower::new(Named(folder.path().to_owned())).unwrap();
            let mut world = Self { folder, follower };
            assert_eq!(world.said(), "first\n");
            world
        }

        fn at(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn append(&self, text: &str) {
            append(&self.at("x.log"), text);
        }

        fn rename(&self) {
            fs::rename(self.at("x.log"), self.at("x.log.1")).unwrap();
        }

        fn cut(&self) {
            File::options().write(true).open(self.at("x.log")).unwrap().set_len(0).unwrap();
        }

        fn said(&mut self) -> String {
            let mut out = Vec::new();
            self.follower.copy(&mut out).unwrap();
            String::from_utf8(out).unwrap()
        }
    }

    fn append(path: &Path, text: &str) {
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn a_log_that_is_renamed_and_begun_anew_is_followed_without_a_gap() {
        let mut world = World::new();
        world.append("last\n");
        world.rename();
        assert_eq!(world.said(), "last\n", "nothing has the name yet");
        append(&world.at("x.log.1"), "the very last\n");
        world.append("new\n");
        assert_eq!(world.said(), "the very last\nnew\n");
        world.append("more\n");
        assert_eq!(world.said(), "more\n");
    }

    #[test]
    fn a_log_that_is_turned_twice_between_two_looks_is_shown_whole() {
        let mut world = World::new();
        world.append("a\n");
        for text in ["b\n", "c\n"] {
            world.rename();
            world.append(text);
        }
        assert_eq!(world.said(), "a\nb\nc\n");
        assert_eq!(world.said(), "");
    }

    #[test]
    fn a_log_that_is_copied_away_and_cut_is_followed_without_a_gap() {
        let mut world = World::new();
        for round in ["one\n", "two\n"] {
            world.append(round);
            fs::copy(world.at("x.log"), world.at("x.log.1")).unwrap();
            world.cut();
            world.append("new\n");
            assert_eq!(world.said(), format!("{round}new\n"));
        }
    }

    #[test]
    fn a_copy_that_is_seen_before_the_cut_is_not_shown_twice() {
        let mut world = World::new();
        world.append("last\n");
        fs::copy(world.at("x.log"), world.at("x.log.1")).unwrap();
        assert_eq!(world.said(), "last\n");
        world.cut();
        world.append("new\n");
        assert_eq!(world.said(), "new\n");
    }

    #[test]
    fn a_log_that_is_replaced_or_emptied_shows_nothing_of_an_older_one() {
        let mut world = World::new();
        world.cut();
        world.append("cut\n");
        assert_eq!(world.said(), "cut\n");
        fs::remove_file(world.at("x.log")).unwrap();
        assert_eq!(world.said(), "");
        world.append("another file\n");
        assert_eq!(world.said(), "another file\n");
    }
}
