variable "name" {
  description = "The cluster's name, and the beginning of every other name"
  type        = string
  default     = "terraformed"
}

variable "cidr" {
  description = "The VPC's addresses"
  type        = string
  default     = "10.20.0.0/16"
}

variable "zones" {
  description = "One subnet in each; a cluster wants two"
  type        = list(string)
  default     = ["us-east-1a", "us-east-1b"]
}

variable "nodes" {
  description = "How many worker nodes"
  type        = number
  default     = 1
}
