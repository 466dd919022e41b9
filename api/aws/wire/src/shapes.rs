//! Writing shapes down without repeating what all of them share.

/// Declares operations of one service with their requests and responses.
///
/// ```
/// aws_wire::operations! {
///     service "iam", case "PascalCase";
///     /// Reads a role.
///     GetRole(GetRoleRequest { pub role_name: String }) -> GetRoleResponse { pub role: String }
/// }
/// ```
///
/// After the name may stand a method and a path: `GetThing "GET" "/things/{name}" (…)`.
#[macro_export]
macro_rules! operations {
    (
        service $service:literal, case $case:literal;
        $(
            $(#[$doc:meta])*
            $name:ident $($method:literal $path:literal)?
            ($request:ident { $($request_fields:tt)* })
            -> $response:ident { $($response_fields:tt)* }
        )*
    ) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub enum $name {}

            impl $crate::Operation for $name {
                const SERVICE: &'static str = $service;
                const ACTION: &'static str = stringify!($name);
                $(const HTTP: $crate::Http = $crate::Http { method: $method, path: $path };)?
                type Request = $request;
                type Response = $response;
            }

            /// See the operation.
            #[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
            #[serde(rename_all = $case)]
            pub struct $request { $($request_fields)* }

            /// See the operation.
            #[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
            #[serde(rename_all = $case)]
            pub struct $response { $($response_fields)* }
        )*
    };
}

/// Declares structures that requests and responses share.
#[macro_export]
macro_rules! structures {
    (
        case $case:literal;
        $($(#[$doc:meta])* $name:ident { $($fields:tt)* })*
    ) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
            #[serde(rename_all = $case)]
            pub struct $name { $($fields)* }
        )*
    };
}
