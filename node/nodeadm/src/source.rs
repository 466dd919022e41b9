//! Where user data comes from.

use std::{
    fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use api_imds::{FetchError, ImdsClient, paths};

/// A `--config-source`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    UserData,
    File(PathBuf),
}

/// Not the URL of a source.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a configuration source: use `imds://user-data` or `file://PATH`")]
pub(crate) struct ParseSourceError {
    text: String,
}

/// A source that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("failed to read user data from the metadata service")]
    Imds {
        #[source]
        source: FetchError,
    },
    #[error("failed to read `{}`", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl FromStr for Source {
    type Err = ParseSourceError;

    fn from_str(text: &str) -> Result<Self, ParseSourceError> {
        match text.split_once("://") {
            Some(("imds", "user-data")) => Ok(Self::UserData),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            _ => Err(ParseSourceError { text: text.to_owned() }),
        }
    }
}

impl Source {
    /// All that the source holds: one document, or one for each file of a folder, by name.
    pub(crate) async fn read(&self, imds: &ImdsClient) -> Result<Vec<Vec<u8>>, ReadError> {
        match self {
            Self::UserData => {
                let data = imds.bytes(paths::USER_DATA).await;
                let data = data.map_err(|source| ReadError::Imds { source })?;
                Ok(data.into_iter().collect())
            }
            Self::File(path) => {
                read_files(path).map_err(|source| ReadError::File { path: path.clone(), source })
            }
        }
    }
}

fn read_files(path: &Path) -> io::Result<Vec<Vec<u8>>> {
    if !path.is_dir() {
        return Ok(vec![fs::read(path)?]);
    }
    let mut files: Vec<PathBuf> =
        fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    files.sort();
    files.iter().map(fs::read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_urls() {
        assert_eq!("imds://user-data".parse::<Source>().unwrap(), Source::UserData);
        let file = "file:///etc/eks/nodeadm.d/".parse::<Source>().unwrap();
        assert_eq!(file, Source::File("/etc/eks/nodeadm.d/".into()));
        for wrong in ["", "imds://x", "http://x", "file://", "/etc"] {
            assert!(wrong.parse::<Source>().is_err(), "{wrong}");
        }
    }
}
