//! Where a walk over an object is. Most objects break no rule, so that the text is made when it is told.

use std::fmt;

/// The way from the object's root.
#[derive(Clone, Copy, Debug)]
pub(super) enum Path<'a> {
    /// Where the walk began.
    Begin(&'a str),
    Field(&'a Path<'a>, &'a str),
    Entry(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin(at) => f.write_str(at),
            Self::Field(Path::Begin(""), name) => f.write_str(name),
            Self::Field(of, name) => write!(f, "{of}.{name}"),
            Self::Entry(of, name) => write!(f, "{of}[{name}]"),
            Self::Item(of, index) => write!(f, "{of}[{index}]"),
        }
    }
}

impl Path<'_> {
    /// As errors show it.
    pub(super) fn shown(&self) -> String {
        let text = self.to_string();
        if text.is_empty() { "<nil>".to_owned() } else { text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_told_from_the_root() {
        let root = Path::Begin("");
        assert_eq!(root.shown(), "<nil>");
        let spec = Path::Field(&root, "spec");
        let items = Path::Field(&spec, "items");
        let (item, entry) = (Path::Item(&items, 3), Path::Entry(&spec, "a"));
        assert_eq!(Path::Field(&item, "name").shown(), "spec.items[3].name");
        assert_eq!(entry.shown(), "spec[a]");
        assert_eq!(Path::Field(&Path::Begin("spec.x"), "y").shown(), "spec.x.y");
    }
}
