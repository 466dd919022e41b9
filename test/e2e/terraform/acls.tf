# Network ACLs in each of the ways that the provider has: with their rules in them, with rules beside
# them, associated by themselves, and the VPC's default one taken over.

resource "aws_vpc" "this" {
  cidr_block = "10.9.0.0/16"
  tags       = { Name = "acls" }
}

resource "aws_subnet" "this" {
  for_each   = { inline = "10.9.0.0/24", apart = "10.9.1.0/24", default = "10.9.2.0/24" }
  vpc_id     = aws_vpc.this.id
  cidr_block = each.value
  tags       = { Name = each.key }
}

resource "aws_default_network_acl" "this" {
  default_network_acl_id = aws_vpc.this.default_network_acl_id
  subnet_ids             = [aws_subnet.this["default"].id]

  ingress {
    protocol   = -1
    rule_no    = 100
    action     = "allow"
    cidr_block = aws_vpc.this.cidr_block
    from_port  = 0
    to_port    = 0
  }

  tags = { Name = "acls-default" }
}

resource "aws_network_acl" "inline" {
  vpc_id     = aws_vpc.this.id
  subnet_ids = [aws_subnet.this["inline"].id]

  ingress {
    protocol   = "tcp"
    rule_no    = 100
    action     = "allow"
    cidr_block = "10.0.0.0/8"
    from_port  = 443
    to_port    = 443
  }

  ingress {
    protocol   = "icmp"
    rule_no    = 110
    action     = "allow"
    cidr_block = "0.0.0.0/0"
    from_port  = 0
    to_port    = 0
    icmp_type  = 8
    icmp_code  = -1
  }

  egress {
    protocol   = "udp"
    rule_no    = 200
    action     = "deny"
    cidr_block = "10.3.0.0/18"
    from_port  = 1024
    to_port    = 65535
  }

  tags = { Name = "acls-inline" }
}

resource "aws_network_acl" "apart" {
  vpc_id = aws_vpc.this.id
  tags   = { Name = "acls-apart" }
}

resource "aws_network_acl_association" "apart" {
  network_acl_id = aws_network_acl.apart.id
  subnet_id      = aws_subnet.this["apart"].id
}

resource "aws_network_acl_rule" "tcp" {
  network_acl_id = aws_network_acl.apart.id
  rule_number    = var.rule_number
  egress         = false
  protocol       = "tcp"
  rule_action    = "allow"
  cidr_block     = aws_vpc.this.cidr_block
  from_port      = 22
  to_port        = 22
}

resource "aws_network_acl_rule" "all" {
  network_acl_id = aws_network_acl.apart.id
  rule_number    = 100
  egress         = true
  protocol       = "-1"
  rule_action    = "allow"
  cidr_block     = "0.0.0.0/0"
}

variable "rule_number" {
  type    = number
  default = 300
}

output "apart" {
  value = aws_network_acl.apart.id
}
