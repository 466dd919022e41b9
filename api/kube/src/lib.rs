//! Well-known names of Kubernetes and EKS.
