//! One page of a list, as long as the caller asks for and the operation allows.

use aws_wire::Fault;
use region_gateway::{Page, page};

use crate::faults;

pub(crate) fn cut<T>(
    items: Vec<T>,
    size: Option<i64>,
    token: Option<&str>,
    most: usize,
    key: impl Fn(&T) -> String,
) -> Result<Page<T>, Fault> {
    let size = size.map_or(Ok(most), usize::try_from).unwrap_or(0);
    if size == 0 || size > most {
        return Err(faults::validation(format!("MaxResults must be between 1 and {most}.")));
    }
    page(items, size, token, key).map_err(|it| it.fault("InvalidNextToken"))
}
