"""The OPC UA server of the e-noses: the only package that speaks OPC UA and Modbus."""
