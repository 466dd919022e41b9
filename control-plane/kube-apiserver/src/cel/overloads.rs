//! The functions and operators that Kubernetes' expressions have, with the types of each.
//!
//! Upstream: `BaseEnvSet` of k8s.io/apiserver/pkg/cel/environment, with the libraries of
//! k8s.io/apiserver/pkg/cel/library and cel-go's standard library.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use super::types::Type;

/// One way to call a function.
pub(super) struct Overload {
    pub(super) is_member: bool,
    /// With the target in front.
    pub(super) args: Vec<Type>,
    pub(super) result: Type,
}

/// All ways to call `name`.
pub(super) fn of(name: &str) -> &'static [Overload] {
    TABLE.get(name).map_or(&[], Vec::as_slice)
}

/// Whether there are functions like `prefix.name`.
pub(super) fn is_prefix(prefix: &str) -> bool {
    static PREFIXES: LazyLock<HashSet<&str>> = LazyLock::new(|| {
        let names = TABLE.keys().filter_map(|it| it.split_once('.'));
        names.map(|(prefix, _)| prefix).collect()
    });
    PREFIXES.contains(prefix)
}

static TABLE: LazyLock<HashMap<&'static str, Vec<Overload>>> = LazyLock::new(|| {
    let mut table: HashMap<&'static str, Vec<Overload>> = HashMap::new();
    for line in [STANDARD, LIBRARIES].into_iter().flat_map(str::lines) {
        let Some((name, rest)) = line.trim().split_once(' ') else { continue };
        let (args, result) = rest.split_once(" -> ").unwrap_or((rest, "dyn"));
        // `.name` has a target.
        let is_member = name.starts_with('.');
        let overload = Overload {
            is_member,
            args: split(args).into_iter().map(parse).collect(),
            result: parse(result.trim()),
        };
        table.entry(name.trim_start_matches('.')).or_default().push(overload);
    }
    for name in ["_<_", "_<=_", "_>_", "_>=_"] {
        table.entry(name).or_default().extend(ordered());
    }
    table
});

/// Numbers of all types can be compared with each other.
fn ordered() -> impl Iterator<Item = Overload> {
    let numbers = ["int", "uint", "double"];
    let pairs = numbers.into_iter().flat_map(move |a| numbers.map(|b| (a, b)));
    let others = ["bool", "string", "bytes", "timestamp", "duration"].map(|it| (it, it));
    pairs.chain(others).map(|(a, b)| Overload {
        is_member: false,
        args: vec![parse(a), parse(b)],
        result: Type::Bool,
    })
}

/// The parts between commas that are in no brackets.
fn split(list: &'static str) -> Vec<&'static str> {
    let (mut parts, mut depth, mut begin) = (Vec::new(), 0, 0);
    for (at, it) in list.char_indices() {
        match it {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(list[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(list[begin..].trim());
    parts.retain(|it| !it.is_empty() && *it != "-");
    parts
}

fn parse(name: &'static str) -> Type {
    if let Some((outer, inner)) = name.strip_suffix(')').and_then(|it| it.split_once('(')) {
        let inner = split(inner);
        let part = |at: usize| Box::new(inner.get(at).map_or(Type::Dyn, |it| parse(it)));
        return match outer {
            "list" => Type::List(part(0)),
            "map" => Type::Map(part(0), part(1)),
            _ => Type::Optional(part(0)),
        };
    }
    match name {
        "dyn" => Type::Dyn,
        "null" => Type::Null,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "duration" => Type::Duration,
        "timestamp" => Type::Timestamp,
        "type" => Type::Meta,
        "A" => Type::Any(0),
        "B" => Type::Any(1),
        named => Type::Named(named),
    }
}

/// A name, what it takes, what it gives. `-`: nothing.
const STANDARD: &str = "
_?_:_ bool, A, A -> A
_&&_ bool, bool -> bool
_||_ bool, bool -> bool
!_ bool -> bool
@not_strictly_false bool -> bool
_==_ A, A -> bool
_!=_ A, A -> bool
@in A, list(A) -> bool
@in A, map(A, B) -> bool
_[_] list(A), int -> A
_[_] map(A, B), A -> B
_[?_] list(A), int -> optional(A)
_[?_] optional(list(A)), int -> optional(A)
_[?_] map(A, B), A -> optional(B)
_[?_] optional(map(A, B)), A -> optional(B)
_[_] optional(list(A)), int -> optional(A)
_[_] optional(map(A, B)), A -> optional(B)
-_ int -> int
-_ double -> double
_+_ int, int -> int
_+_ uint, uint -> uint
_+_ double, double -> double
_+_ string, string -> string
_+_ bytes, bytes -> bytes
_+_ list(A), list(A) -> list(A)
_+_ timestamp, duration -> timestamp
_+_ duration, timestamp -> timestamp
_+_ duration, duration -> duration
_-_ int, int -> int
_-_ uint, uint -> uint
_-_ double, double -> double
_-_ timestamp, timestamp -> duration
_-_ timestamp, duration -> timestamp
_-_ duration, duration -> duration
_*_ int, int -> int
_*_ uint, uint -> uint
_*_ double, double -> double
_/_ int, int -> int
_/_ uint, uint -> uint
_/_ double, double -> double
_%_ int, int -> int
_%_ uint, uint -> uint
size string -> int
size bytes -> int
size list(A) -> int
size map(A, B) -> int
.size string -> int
.size bytes -> int
.size list(A) -> int
.size map(A, B) -> int
.contains string, string -> bool
.startsWith string, string -> bool
.endsWith string, string -> bool
.matches string, string -> bool
matches string, string -> bool
bool bool -> bool
bool string -> bool
bytes bytes -> bytes
bytes string -> bytes
double double -> double
double int -> double
double uint -> double
double string -> double
int int -> int
int uint -> int
int double -> int
int string -> int
int timestamp -> int
uint uint -> uint
uint int -> uint
uint double -> uint
uint string -> uint
string string -> string
string bool -> string
string int -> string
string uint -> string
string double -> string
string bytes -> string
string timestamp -> string
string duration -> string
duration string -> duration
duration duration -> duration
timestamp string -> timestamp
timestamp timestamp -> timestamp
dyn A -> dyn
type A -> type
.getFullYear timestamp -> int
.getFullYear timestamp, string -> int
.getMonth timestamp -> int
.getMonth timestamp, string -> int
.getDayOfYear timestamp -> int
.getDayOfYear timestamp, string -> int
.getDayOfMonth timestamp -> int
.getDayOfMonth timestamp, string -> int
.getDate timestamp -> int
.getDate timestamp, string -> int
.getDayOfWeek timestamp -> int
.getDayOfWeek timestamp, string -> int
.getHours timestamp -> int
.getHours timestamp, string -> int
.getHours duration -> int
.getMinutes timestamp -> int
.getMinutes timestamp, string -> int
.getMinutes duration -> int
.getSeconds timestamp -> int
.getSeconds timestamp, string -> int
.getSeconds duration -> int
.getMilliseconds timestamp -> int
.getMilliseconds timestamp, string -> int
.getMilliseconds duration -> int
optional.none - -> optional(dyn)
optional.of A -> optional(A)
optional.ofNonZeroValue A -> optional(A)
.value optional(A) -> A
.hasValue optional(A) -> bool
.or optional(A), optional(A) -> optional(A)
.orValue optional(A), A -> A
.first list(A) -> optional(A)
.last list(A) -> optional(A)
optional.unwrap list(optional(A)) -> list(A)
.unwrapOpt list(optional(A)) -> list(A)
";

const LIBRARIES: &str = "
.charAt string, int -> string
.indexOf string, string -> int
.indexOf string, string, int -> int
.lastIndexOf string, string -> int
.lastIndexOf string, string, int -> int
.join list(string) -> string
.join list(string), string -> string
.lowerAscii string -> string
.upperAscii string -> string
.trim string -> string
.replace string, string, string -> string
.replace string, string, string, int -> string
.split string, string -> list(string)
.split string, string, int -> list(string)
.substring string, int -> string
.substring string, int, int -> string
.format string, list(dyn) -> string
strings.quote string -> string
.isSorted list(A) -> bool
.sum list(A) -> A
.min list(A) -> A
.max list(A) -> A
.indexOf list(A), A -> int
.lastIndexOf list(A), A -> int
sets.contains list(A), list(A) -> bool
sets.equivalent list(A), list(A) -> bool
sets.intersects list(A), list(A) -> bool
.find string, string -> string
.findAll string, string -> list(string)
.findAll string, string, int -> list(string)
url string -> kubernetes.URL
isURL string -> bool
.getScheme kubernetes.URL -> string
.getHost kubernetes.URL -> string
.getHostname kubernetes.URL -> string
.getPort kubernetes.URL -> string
.getEscapedPath kubernetes.URL -> string
.getQuery kubernetes.URL -> map(string, list(string))
quantity string -> kubernetes.Quantity
isQuantity string -> bool
.sign kubernetes.Quantity -> int
.isInteger kubernetes.Quantity -> bool
.asInteger kubernetes.Quantity -> int
.asApproximateFloat kubernetes.Quantity -> double
.isGreaterThan kubernetes.Quantity, kubernetes.Quantity -> bool
.isLessThan kubernetes.Quantity, kubernetes.Quantity -> bool
.compareTo kubernetes.Quantity, kubernetes.Quantity -> int
.add kubernetes.Quantity, kubernetes.Quantity -> kubernetes.Quantity
.add kubernetes.Quantity, int -> kubernetes.Quantity
.sub kubernetes.Quantity, kubernetes.Quantity -> kubernetes.Quantity
.sub kubernetes.Quantity, int -> kubernetes.Quantity
semver string -> kubernetes.Semver
semver string, bool -> kubernetes.Semver
isSemver string -> bool
isSemver string, bool -> bool
.major kubernetes.Semver -> int
.minor kubernetes.Semver -> int
.patch kubernetes.Semver -> int
.isGreaterThan kubernetes.Semver, kubernetes.Semver -> bool
.isLessThan kubernetes.Semver, kubernetes.Semver -> bool
.compareTo kubernetes.Semver, kubernetes.Semver -> int
ip string -> net.IP
isIP string -> bool
ip.isCanonical string -> bool
.family net.IP -> int
.isUnspecified net.IP -> bool
.isLoopback net.IP -> bool
.isLinkLocalMulticast net.IP -> bool
.isLinkLocalUnicast net.IP -> bool
.isGlobalUnicast net.IP -> bool
string net.IP -> string
cidr string -> net.CIDR
isCIDR string -> bool
.containsIP net.CIDR, net.IP -> bool
.containsIP net.CIDR, string -> bool
.containsCIDR net.CIDR, net.CIDR -> bool
.containsCIDR net.CIDR, string -> bool
.ip net.CIDR -> net.IP
.masked net.CIDR -> net.CIDR
.prefixLength net.CIDR -> int
string net.CIDR -> string
format.named string -> optional(kubernetes.NamedFormat)
format.dns1123Label - -> kubernetes.NamedFormat
format.dns1123Subdomain - -> kubernetes.NamedFormat
format.dns1035Label - -> kubernetes.NamedFormat
format.qualifiedName - -> kubernetes.NamedFormat
format.dns1123LabelPrefix - -> kubernetes.NamedFormat
format.dns1123SubdomainPrefix - -> kubernetes.NamedFormat
format.dns1035LabelPrefix - -> kubernetes.NamedFormat
format.labelValue - -> kubernetes.NamedFormat
format.uri - -> kubernetes.NamedFormat
format.uuid - -> kubernetes.NamedFormat
format.byte - -> kubernetes.NamedFormat
format.date - -> kubernetes.NamedFormat
format.datetime - -> kubernetes.NamedFormat
.validate kubernetes.NamedFormat, string -> optional(list(string))
jsonpatch.escapeKey string -> string
.path kubernetes.authorization.Authorizer, string -> kubernetes.authorization.PathCheck
.check kubernetes.authorization.PathCheck, string -> kubernetes.authorization.Decision
.group kubernetes.authorization.Authorizer, string -> kubernetes.authorization.GroupCheck
.serviceAccount kubernetes.authorization.Authorizer, string, string -> kubernetes.authorization.Authorizer
.resource kubernetes.authorization.GroupCheck, string -> kubernetes.authorization.ResourceCheck
.subresource kubernetes.authorization.ResourceCheck, string -> kubernetes.authorization.ResourceCheck
.namespace kubernetes.authorization.ResourceCheck, string -> kubernetes.authorization.ResourceCheck
.name kubernetes.authorization.ResourceCheck, string -> kubernetes.authorization.ResourceCheck
.fieldSelector kubernetes.authorization.ResourceCheck, string -> kubernetes.authorization.ResourceCheck
.labelSelector kubernetes.authorization.ResourceCheck, string -> kubernetes.authorization.ResourceCheck
.check kubernetes.authorization.ResourceCheck, string -> kubernetes.authorization.Decision
.allowed kubernetes.authorization.Decision -> bool
.reason kubernetes.authorization.Decision -> string
.errored kubernetes.authorization.Decision -> bool
.error kubernetes.authorization.Decision -> string
";
