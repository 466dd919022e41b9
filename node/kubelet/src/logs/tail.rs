//! The end of a log.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use super::{line::Line, open::open_inside};

const BLOCK: u64 = 16 * 1024;

/// The most of a line that containerd writes at once (`max_container_log_line_size`), with what stands
/// before it.
const LONGEST_PART: usize = 20 * 1024;

/// Enough of a line to tell whether the next one belongs to it.
const HEAD: usize = 128;

/// Where the last `count` lines of a file begin. Partial lines count as one with what follows them.
///
/// The file is read once, backwards, and of each line only its head is looked at.
pub(super) fn offset_of_last(file: &mut File, count: usize) -> io::Result<u64> {
    let end = file.seek(SeekFrom::End(0))?;
    if count == 0 {
        return Ok(end);
    }
    let mut lines = Backwards { wanted: count, found: 0, next: None };
    // `after` is how the text after `at` begins.
    let (mut at, mut after) = (end, Vec::new());
    while at > 0 {
        let size = BLOCK.min(at);
        at -= size;
        let mut text = vec![0; usize::try_from(size).unwrap_or(0)];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut text)?;
        let block = text.len();
        text.extend_from_slice(&after);
        let newlines = (0..block).rev().filter(|index| text[*index] == b'\n');
        for start in newlines.map(|it| it + 1) {
            let place = at + start as u64;
            if place < end
                && let Some(offset) = lines.add(place, &text[start..])
            {
                return Ok(offset);
            }
        }
        text.truncate(HEAD);
        after = text;
    }
    Ok(lines.add(0, &after).unwrap_or(0))
}

/// The lines of a file from its last to its first.
struct Backwards {
    wanted: usize,
    found: usize,
    /// Where the line after this one begins.
    next: Option<u64>,
}

impl Backwards {
    /// The line that begins at `place`. Returns where the wanted text begins when that is known.
    fn add(&mut self, place: u64, text: &[u8]) -> Option<u64> {
        let head = &text[..text.len().min(HEAD)];
        let line = head.split(|it| *it == b'\n').next().unwrap_or_default();
        let continues = Line::parse(line).is_some_and(|it| it.is_partial);
        let next = self.next.replace(place)?;
        if continues {
            return None;
        }
        self.found += 1;
        (self.found == self.wanted).then_some(next)
    }
}

/// The text of the last lines, at most `limit` bytes of it.
///
/// Lines may be of any length: no more of the file is read than can hold what is wanted.
pub(crate) fn tail_text(root: &Path, path: &Path, lines: usize, limit: usize) -> String {
    let raw = last_bytes(root, path, limit + lines * HEAD + 2 * LONGEST_PART).unwrap_or_default();
    let mut whole = VecDeque::new();
    let mut current = Vec::new();
    let mut add = |line: Vec<u8>| {
        whole.push_back(line);
        if whole.len() > lines {
            whole.pop_front();
        }
    };
    for line in raw.split(|it| *it == b'\n').filter_map(Line::parse) {
        current.extend_from_slice(line.text);
        if !line.is_partial {
            current.push(b'\n');
            add(std::mem::take(&mut current));
        }
    }
    if !current.is_empty() {
        add(current);
    }
    let text = whole.into_iter().collect::<Vec<_>>().concat();
    let from = text.len().saturating_sub(limit);
    String::from_utf8_lossy(&text[from..]).into_owned()
}

/// The whole lines within the last `most` bytes of a file.
fn last_bytes(root: &Path, path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut file = open_inside(root, path)?;
    let end = file.seek(SeekFrom::End(0))?;
    let from = end.saturating_sub(most as u64);
    file.seek(SeekFrom::Start(from))?;
    let mut raw = Vec::new();
    file.take(most as u64).read_to_end(&mut raw)?;
    if from > 0 {
        let begun = raw.iter().position(|it| *it == b'\n').map_or(raw.len(), |it| it + 1);
        raw.drain(..begun);
    }
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_last_lines_are_found_across_blocks_and_parts() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for index in 0..2000 {
            writeln!(file, "2026-11-23T10:00:00Z stdout F line {index}").unwrap();
        }
        writeln!(file, "2026-11-23T10:00:00Z stdout P long ").unwrap();
        writeln!(file, "2026-11-23T10:00:00Z stdout F end").unwrap();
        let path = file.path();
        let root = path.parent().unwrap();
        assert_eq!(tail_text(root, path, 1, 1000), "long end\n");
        assert_eq!(tail_text(root, path, 2, 1000), "line 1999\nlong end\n");
        assert_eq!(tail_text(root, path, 1500, 1 << 20).lines().count(), 1500);
        assert_eq!(tail_text(root, path, 9999, 1 << 20).lines().count(), 2001);
        assert_eq!(tail_text(root, path, 5, 4), "end\n");
    }

    #[test]
    fn of_a_line_without_end_no_more_is_read_than_is_wanted() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let part = "x".repeat(16 * 1024);
        for _ in 0..1000 {
            writeln!(file, "2026-11-23T10:00:00.000000000Z stdout P {part}").unwrap();
        }
        writeln!(file, "2026-11-23T10:00:00.000000000Z stdout F end").unwrap();
        let path = file.path();
        let root = path.parent().unwrap();
        assert_eq!(tail_text(root, path, 80, 8), "xxxxend\n");
        assert_eq!(tail_text(root, path, 80, 2048).len(), 2048);
        assert!(last_bytes(root, path, 50_000).unwrap().len() <= 50_000);
        // Of the file's hundredth part, each line is whole.
        let raw = last_bytes(root, path, 50_000).unwrap();
        assert!(raw.split_inclusive(|it| *it == b'\n').all(|it| it.starts_with(b"2026")));
    }

    #[test]
    fn a_large_log_is_read_once_however_many_lines_are_wanted() {
        const LINES: usize = 200_000;
        let mut file = io::BufWriter::new(tempfile::tempfile().unwrap());
        for index in 0..LINES {
            let text = "x".repeat(index % 100);
            writeln!(file, "2026-11-23T10:00:00Z stdout F {text}").unwrap();
        }
        let mut file = file.into_inner().unwrap();
        let started = std::time::Instant::now();
        let offset = offset_of_last(&mut file, LINES - 1).unwrap();
        assert_eq!(offset, "2026-11-23T10:00:00Z stdout F \n".len() as u64);
        // A tenth of a second; minutes if each block looked at all lines after it again.
        let took = started.elapsed();
        assert!(took < std::time::Duration::from_secs(20), "{took:?}");
    }
}
