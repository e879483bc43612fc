module fairway.test/agnhost

go 1.26.0
