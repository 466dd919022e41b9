//! The end of a log.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use super::line::Line;

const BLOCK: u64 = 16 * 1024;

/// Where the last `count` lines of a file begin. Partial lines count as one with what follows them.
pub(super) fn offset_of_last(file: &mut File, count: usize) -> io::Result<u64> {
    let end = file.seek(SeekFrom::End(0))?;
    if count == 0 {
        return Ok(end);
    }
    let (mut at, mut found, mut tail) = (end, 0, Vec::new());
    while at > 0 {
        let size = BLOCK.min(at);
        at -= size;
        let mut block = vec![0; usize::try_from(size).unwrap_or(0)];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut block)?;
        block.extend_from_slice(&tail);
        tail = block;
        // Everything after the first newline of what is read is whole lines.
        let Some(start) = tail.iter().position(|it| *it == b'\n').map(|it| it + 1) else {
            continue;
        };
        let start = if at == 0 { 0 } else { start };
        found = whole_lines(&tail[start..]).len();
        if found > count {
            break;
        }
    }
    let start = match (at, tail.iter().position(|it| *it == b'\n')) {
        (0, _) | (_, None) => 0,
        (_, Some(newline)) => newline + 1,
    };
    let starts = whole_lines(&tail[start..]);
    let skipped = found.max(starts.len()).saturating_sub(count);
    let inside = starts.get(skipped).copied().unwrap_or(0);
    Ok(at + (start + inside) as u64)
}

/// Where each text begins: a line that follows a partial one belongs to it.
fn whole_lines(text: &[u8]) -> Vec<usize> {
    let (mut starts, mut at, mut continues) = (Vec::new(), 0, false);
    for raw in text.split_inclusive(|it| *it == b'\n') {
        if !continues {
            starts.push(at);
        }
        let trimmed = raw.strip_suffix(b"\n").unwrap_or(raw);
        continues = Line::parse(trimmed).is_some_and(|it| it.is_partial);
        at += raw.len();
    }
    starts
}

/// The text of the last lines, at most `limit` bytes of it.
pub(crate) fn tail_text(path: &str, lines: usize, limit: usize) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(Path::new(path))?;
        let offset = offset_of_last(&mut file, lines)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut raw = Vec::new();
        file.read_to_end(&mut raw)?;
        Ok(raw)
    };
    let raw = read().unwrap_or_default();
    let mut text = Vec::new();
    for line in raw.split(|it| *it == b'\n').filter_map(Line::parse) {
        text.extend_from_slice(line.text);
        if !line.is_partial {
            text.push(b'\n');
        }
    }
    let from = text.len().saturating_sub(limit);
    String::from_utf8_lossy(&text[from..]).into_owned()
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
        let path = file.path().display().to_string();
        assert_eq!(tail_text(&path, 1, 1000), "long end\n");
        assert_eq!(tail_text(&path, 2, 1000), "line 1999\nlong end\n");
        assert_eq!(tail_text(&path, 1500, 1 << 20).lines().count(), 1500);
        assert_eq!(tail_text(&path, 9999, 1 << 20).lines().count(), 2001);
        assert_eq!(tail_text(&path, 5, 4), "end\n");
    }
}
