"""Parameters of each registered model with 19 classes and RGB images."""

PARAMETER_COUNTS = {
    "densenet121_32x": 8_071_699,
    "dilated_densenet121": 8_403_110,
    "dilated_resnet50": 25_485_670,
    "ladder_densenet121": 9_588_902,
    "ladder_densenet121_single": 9_586_195,
    "ladder_densenet161": 30_016_934,
    "ladder_densenet169": 15_530_406,
    "ladder_densenet169_split34": 15_925_670,
    "ladder_densenet169_spp": 16_384_422,
    "ladder_densenet201": 21_369_766,
    "ladder_resnet101": 45_829_990,
    "ladder_resnet18": 13_342_438,
    "ladder_resnet34": 23_450_598,
    "ladder_resnet50": 26_837_862,
    "resnet50_32x": 25_154_259,
}
