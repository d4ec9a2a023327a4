kernel void a(){}
